package jetstream

import "net"

// Wire is a connection as Connect reads it.
func Wire(c net.Conn) net.Conn { return &wire{Conn: c} }
