// Package projections makes the log readable: the replica (the fold of all
// events, in memory, in every process), the projector (the same fold as documents
// in the state bucket, written by the leader), the reads that are answered from
// either, and the notifier (what subscribers are told, by the leader). It declares
// the ports that it reads and writes through; package jetstream implements them.
package projections
