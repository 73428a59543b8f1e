package engines

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-524e47bf/epum/events"
)

// mostClouds bounds how many sites one domain may be spread over, so that what an
// engine keeps of each stays below events.MaxMemoryBytes.
const mostClouds = 16

// Cloud is one of the sites that a domain is spread over.
type Cloud struct {
	Site string
	Size int // instances that may be there at a time
	Rank int // sites of lower rank come first
}

// GivenClouds are the keys of an engine_conf that spread a domain over sites, for
// an engine's own struct to embed; nil: absent or null.
type GivenClouds struct {
	List       []json.RawMessage          `json:"clouds"`
	DTName     *string                    `json:"dtname"`
	Type       *string                    `json:"deployable_type"` // another name of dtname
	Allocation *string                    `json:"iaas_allocation"`
	Vars       map[string]json.RawMessage `json:"provisioner_vars"` // the outbox reads them
}

// Clouds checks the list and sorts it by rank; those of the same rank stay as they
// are listed. With unlimited a size of -1 is Unlimited. With complete false keys
// may be missing. It fails with a *FieldError that names the site too.
func (g *GivenClouds) Clouds(complete, unlimited bool) ([]Cloud, error) {
	switch {
	case complete && len(g.List) == 0:
		return nil, RefuseEngineConf("clouds", "is required: a list of at least one site, each with its site_name and size")
	case len(g.List) > mostClouds:
		return nil, RefuseEngineConf("clouds", fmt.Sprintf("names %d sites, at most %d are allowed", len(g.List), mostClouds))
	}
	clouds := make([]Cloud, len(g.List))
	at := map[string]int{}
	for n, raw := range g.List {
		var err error
		if clouds[n], err = cloud(n, raw, complete, unlimited); err != nil {
			return nil, err
		}
		name := clouds[n].Site
		if first, taken := at[name]; taken && name != "" {
			return nil, refuseCloud(n, "site_name", name, fmt.Sprintf("is that of clouds.%d already; name each site once", first))
		}
		at[name] = n
	}
	slices.SortStableFunc(clouds, func(a, b Cloud) int { return a.Rank - b.Rank })
	return clouds, nil
}

// Launch checks the other keys: what an instance is like, wherever it is. With
// complete false they may be missing. It fails with a *FieldError.
func (g *GivenClouds) Launch(complete bool) (Launch, error) {
	deployable, key := g.DTName, "dtname"
	if deployable == nil && g.Type != nil {
		deployable, key = g.Type, "deployable_type"
	} else if g.Type != nil && *g.Type != *deployable {
		return Launch{}, RefuseEngineConf("deployable_type", "is another than dtname, which means the same; give one of them")
	}
	var l Launch
	for _, f := range []struct {
		key   string
		given *string
		into  *string
		what  string
	}{
		{key, deployable, &l.DeployableType, "the deployable type that is launched"},
		{"iaas_allocation", g.Allocation, &l.Allocation, "the size of an instance, as the provisioners know it"},
	} {
		if f.given == nil {
			if complete {
				return l, RefuseEngineConf(f.key, "is required: "+f.what)
			}
			continue
		}
		if err := events.CheckName(*f.given); err != nil {
			return l, RefuseEngineConf(f.key, "must be a name: "+err.Error())
		}
		*f.into = *f.given
	}
	return l, nil
}

// mostSize bounds a cloud's size and rank, so that sums of them stay numbers.
const mostSize = 1_000_000

func cloud(n int, raw json.RawMessage, complete, unlimited bool) (c Cloud, err error) {
	var given struct {
		Site *string `json:"site_name"`
		Size *int    `json:"size"`
		Rank *int    `json:"rank"`
	}
	if err := DecodeSection(fmt.Sprintf("%s.clouds.%d", SectionEngineConf, n), raw, &given); err != nil {
		return c, ofSite(raw, err)
	}
	switch {
	case given.Site != nil:
		c.Site = *given.Site
		if err := events.CheckName(c.Site); err != nil {
			return c, refuseCloud(n, "site_name", "", "must be a name: "+err.Error())
		}
	case complete:
		return c, refuseCloud(n, "site_name", "", "is required: the site whose provisioner is asked")
	}
	if c.Size, err = size(given.Size, complete, unlimited); err != nil {
		return c, refuseCloud(n, "size", c.Site, err.Error())
	}
	if c.Rank = n + 1; given.Rank != nil {
		if c.Rank = *given.Rank; c.Rank < -mostSize || c.Rank > mostSize {
			return c, refuseCloud(n, "rank", c.Site, fmt.Sprintf("is %d, but must be an integer from %d to %d", c.Rank, -mostSize, mostSize))
		}
	}
	return c, nil
}

func size(given *int, complete, unlimited bool) (int, error) {
	switch {
	case given == nil && complete:
		return 0, errors.New("is required: how many instances may be there")
	case given == nil:
		return 0, nil
	case *given >= 0 && *given <= mostSize:
		return *given, nil
	case *given == -1 && unlimited:
		return Unlimited, nil
	case unlimited:
		return 0, fmt.Errorf("is %d, but must be an integer from 0 to %d, or -1 for no limit", *given, mostSize)
	}
	return 0, fmt.Errorf("is %d, but must be an integer from 0 to %d", *given, mostSize)
}

func refuseCloud(n int, key, site, message string) error {
	if site != "" {
		message += fmt.Sprintf(" (site %q)", site)
	}
	return RefuseEngineConf(fmt.Sprintf("clouds.%d.%s", n, key), message)
}

// ofSite adds to an error about a cloud's member which site it is, if that can be
// read.
func ofSite(raw json.RawMessage, err error) error {
	var named struct {
		Site string `json:"site_name"`
	}
	field, ok := errors.AsType[*FieldError](err)
	if _ = json.Unmarshal(raw, &named); !ok || named.Site == "" { // what of it can be read
		return err
	}
	return &FieldError{Field: field.Field, Message: field.Message + fmt.Sprintf(" (site %q)", named.Site)}
}

// OtherSites are the sites, sorted, that have instances which count but are none of
// the clouds.
func (v *View) OtherSites(clouds []Cloud) []string {
	var sites []string
	for _, i := range v.Instances {
		if i.Valid() && !slices.ContainsFunc(clouds, func(c Cloud) bool { return c.Site == i.Site }) && !slices.Contains(sites, i.Site) {
			sites = append(sites, i.Site)
		}
	}
	slices.Sort(sites)
	return sites
}
