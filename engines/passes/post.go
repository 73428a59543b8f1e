package passes

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"github.com/seed-524e47bf/epum/events"
)

// nodesPerRequest is how many ids go in one message to a provisioner (design §5).
const nodesPerRequest = 1000

// post sends requests to the provisioners of their sites: a provision for each
// instance, the others many ids at a time.
func (o *outbox) post(sent []*request) {
	type group struct{ op, site, caller string }
	groups := map[group][]*events.Instance{}
	vars := map[events.DomainID]domainVars{}
	for _, r := range sent {
		switch r.op {
		case events.OpProvision:
			id := r.instance.Domain
			if _, known := vars[id]; !known {
				vars[id] = o.domainVars(id)
			}
			o.provision(r.instance, vars[id])
		case events.OpTerminateNodes:
			g := group{op: r.op, site: r.instance.Site, caller: r.instance.Domain.Owner}
			groups[g] = append(groups[g], r.instance)
		case events.OpDumpState:
			g := group{op: r.op, site: r.instance.Site}
			groups[g] = append(groups[g], r.instance)
		}
	}
	for g, instances := range groups {
		for len(instances) > 0 {
			n := min(len(instances), nodesPerRequest)
			ids, seq := make([]string, n), uint64(0)
			for k, i := range instances[:n] {
				ids[k], seq = i.ID, max(seq, i.Seq)
			}
			instances = instances[n:]
			if g.op == events.OpTerminateNodes {
				o.request(g.site, g.op, events.TerminateRequest{Nodes: ids, Caller: g.caller}, seq)
			} else {
				o.request(g.site, g.op, events.DumpStateRequest{Nodes: ids}, seq)
			}
		}
	}
}

func (o *outbox) provision(i *events.Instance, of domainVars) {
	vars, err := o.vars(i, of)
	if err != nil { // of configs that were accepted once, by another version
		o.term.Logger.Error("launch has no usable vars", "instance", i.ID, "owner", i.Domain.Owner, "domain", i.Domain.Name, "error", err)
		return
	}
	o.request(i.Site, events.OpProvision, events.ProvisionRequest{
		LaunchID: i.LaunchID, InstanceIDs: []string{i.ID}, DeployableType: i.DeployableType, Site: i.Site,
		Allocation: i.Allocation, Vars: vars, Caller: i.Domain.Owner,
	}, i.Seq)
}

// domainVars are what all launches of a domain are told, or why there is none.
type domainVars struct {
	vars map[string]json.RawMessage
	err  error
}

// domainVars lays over each other the service's vars, the domain's, and its chef
// credential (design §4).
func (o *outbox) domainVars(id events.DomainID) domainVars {
	vars := maps.Clone(o.term.ProvisionerVars)
	if vars == nil {
		vars = map[string]json.RawMessage{}
	}
	var d *events.Domain
	o.term.Replica.View(func(s *events.State) { d = s.Domain(id) })
	if d == nil {
		return domainVars{vars: vars}
	}
	var conf struct {
		Vars json.RawMessage `json:"provisioner_vars"`
	}
	if err := json.Unmarshal(d.Config.EngineConf, &conf); err != nil {
		return domainVars{err: fmt.Errorf("engine_conf: %w", err)}
	}
	if err := lay(vars, conf.Vars); err != nil {
		return domainVars{err: fmt.Errorf("engine_conf.provisioner_vars: %w", err)}
	}
	if chef := o.term.general.of(d.Config.General).ChefCredential; chef != "" {
		vars["chef_credential"] = quote(chef)
	}
	return domainVars{vars: vars}
}

// vars lays over a domain's vars what is a launch's own, and who it is.
func (o *outbox) vars(i *events.Instance, of domainVars) (map[string]json.RawMessage, error) {
	if of.err != nil {
		return nil, of.err
	}
	vars := maps.Clone(of.vars)
	if err := lay(vars, i.ExtraVars); err != nil {
		return nil, fmt.Errorf("extravars: %w", err)
	}
	vars["node_id"] = quote(i.ID)
	vars["heartbeat_dest"] = quote(o.term.ServiceName)
	return vars, nil
}

// lay lays the keys of a JSON object over vars; null and nothing have none.
func lay(vars map[string]json.RawMessage, object json.RawMessage) error {
	if len(object) == 0 || string(object) == "null" { // null would empty the map
		return nil
	}
	return json.Unmarshal(object, &vars)
}

func quote(s string) json.RawMessage {
	data, _ := json.Marshal(s) // a string always can be
	return data
}

// request sends one message. That it was sent means little: what matters is the
// report that comes back, and without one it is sent again.
func (o *outbox) request(site, op string, body any, seq uint64) {
	data, err := json.Marshal(body)
	if err == nil {
		err = o.term.Sender.Send(o.term.Prefix.Provisioner(site, op), map[string][]string{
			events.HeaderEpoch: o.epoch,
			events.HeaderTime:  o.elected,
			events.HeaderSeq:   {strconv.FormatUint(seq, 10)},
		}, data)
	}
	if err != nil {
		o.term.Logger.Warn("request not sent, it will be again", "op", op, "site", site, "error", err)
	}
}
