// Package natsapi is the service's face on NATS: the endpoints of design §3
// (Serve), the calls from any process to the leader (ServeLeader, ReportOrphan)
// and the Go client (Client).
package natsapi
