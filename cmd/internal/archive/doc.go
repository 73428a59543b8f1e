// Package archive keeps events of the log in files, so that they can be purged from
// the stream.
//
// An archive is a directory: files of CloudEvents 1.0 in JSON, one a line, compressed
// with zstd and named by the sequences that they hold, and a manifest that names each
// file with its range and its SHA-256. A file is complete before the manifest names it,
// and what the manifest does not name counts for nothing; so an archive can be
// interrupted at any byte and goes on where it was.
//
// Events are purged only up to a point up to which the archive is complete and its
// events are, byte for byte, those of the log, and only once a snapshot of the fold at
// that point is in the cell (projections.Origin). Of each key the last event at that
// point or before stays in the log: it is the guard of the next one, and it tells that
// the log is the one that the snapshot was made of.
package archive
