// Package backtest asks what a policy would have done in a domain's recorded history.
//
// With the policy that was in force it decides again on each recorded decision, on what
// the log showed at its input sequence, and compares (Replay): all of them must come out
// the same. With another engine or config it simulates: what is not the policy's doing
// comes from the history, as facts where the log has them (reconfigures, readings of
// metrics) and as rates and latencies where another policy would have met others
// (launches, failures, illness). Both run the code that the leader runs (passes.Evaluator).
//
// What it cannot know: a metric between two decision records, since the log holds
// readings only where a record has them, so each is held until the next; how the load
// would have answered to other instances, so what is read of instances is shared
// evenly by those that run; and when a site or an instance would have failed, so
// failures fall where chance has them, at the recorded rates.
package backtest
