// Package jetstream holds the adapters of epum's ports to NATS JetStream: the
// streams and buckets of a cell and how they are reconciled (Open), the guarded
// and the fenced append, tail and replay of the log (Log), the state bucket
// (Bucket), the lease of the leader (Lease), the queue of reports and durable
// commands (Inbox), the notifications to subscribers (Notices), the dead letters
// (Dead), and an embedded server (StartServer).
//
// What holds everywhere in here:
//
//   - Errors of the server are told apart by their code, never by their text.
//   - A write whose answer was lost is read back from the stream's leader, never
//     by a direct get, which any replica may answer from an older state.
//   - The same bytes are sent again only where a guard makes a second copy
//     impossible, or where a copy does no harm and is known by its message id.
package jetstream
