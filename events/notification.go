package events

import "encoding/json"

// Notification tells a subscriber what has become of an instance (design §4).
type Notification struct {
	NodeID     string                 `json:"node_id"`
	State      InstanceState          `json:"state"` // Running or Failed
	Owner      string                 `json:"owner"`
	DomainID   string                 `json:"domain_id"`
	Properties NotificationProperties `json:"properties"`
}

// NotificationProperties are what a subscriber needs to use the instance.
type NotificationProperties struct {
	Hostname json.RawMessage `json:"hostname"` // the reported public_ip; nil: not known, null on the wire
}

// FieldPublicIP is the reported field that a notification gives as the hostname.
const FieldPublicIP = "public_ip"

// Notified is the state that subscribers are told when a report of state was
// accepted; ok is false where they are told nothing.
func Notified(state InstanceState) (told InstanceState, ok bool) {
	switch {
	case state < Running:
		return "", false
	case state == Running:
		return Running, true
	default:
		return Failed, true
	}
}
