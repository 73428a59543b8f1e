// Package agent is the outside end of a site: it launches and terminates
// instances as the leader's requests ask for it, and reports their states
// (design §4, §6 "Requests to provisioners"). Agent runs each instance as a
// process of this machine; RunMock only simulates instances, of all sites.
//
// # How it never launches twice
//
// One goroutine an instance owns its record, and whatever happens to the
// instance is in the record, on disk, before it is done or reported. A record
// without a process is an intent: the agent that wrote it may have died before
// or after the fork. A child carries its instance's id in its environment, so
// the next agent finds it there. It cannot look too early: a forked child
// holds the directory's lock, which it inherits, until it has executed its
// command.
//
// An instance that is known, in whatever state, is never launched. What is left
// of a finished one, once its last state was reported, is a tombstone of a few
// hundred bytes that is forgotten after TombstoneAge.
//
// # Heartbeats
//
// The instances' heartbeats are sent once, and dropped where the connection is
// slow or away: nothing ever waits for one. An instance beats as long as its
// process lives, whatever its state is believed to be. A type may have a health
// check, a program that looks closer; checks run beside the goroutines of the
// instances, a few at a time.
package agent
