package jetstream

import (
	"context"
	"log/slog"

	"github.com/nats-io/nats.go"
)

// warnIfLenient warns where the server takes JetStream requests with fields that it
// does not know (jetstream { strict: false }, or a server before 2.12). It then takes
// its own acks for requests, where whoever published has named the subject of one as
// the place for the ack. An embedded server is strict; one that is asked logs a
// warning of its own.
func warnIfLenient(ctx context.Context, nc *nats.Conn, stream string, log *slog.Logger) {
	if nc.ConnectedServerName() == embeddedName {
		return
	}
	request := map[string]bool{"epum_asks_whether_unknown_fields_are_refused": true}
	var answer struct {
		Error *apiError `json:"error"`
	}
	if err := askAPI(ctx, nc, "STREAM.INFO."+stream, request, &answer); err == nil && answer.Error == nil {
		log.Warn("the NATS server is not strict: it can be made to take its acks for JetStream requests, also for one to delete a message; "+
			"set strict: true in its jetstream section", "server", nc.ConnectedServerName(), "version", nc.ConnectedServerVersion())
	}
}
