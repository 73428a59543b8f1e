// Package commands takes what callers and provisioners say and turns it into
// events. A request is decoded strictly (Form, Decode) into a Command; the
// Handler lets the command decide on what the replica shows, a pure function,
// and appends its one event with a guard; on a conflict it catches up and lets
// it decide again. The Reporter does the same for the reports of instances.
package commands
