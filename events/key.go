package events

import "strings"

// Key names one aggregate, one document and one subject at once: the event
// subject without its prefix, and the document's key in the state bucket. Its
// forms are (each part a Token):
//
//	definition.<definition>
//	domain.<owner>.<domain>
//	instance.<owner>.<domain>.<instance>
//	decision.<owner>.<domain>
//	leader
//	pass
//	checkpoint (a document only)
type Key string

// The keys of the aggregates there is only one of.
const (
	LeaderKey     Key = "leader"
	PassKey       Key = "pass"
	CheckpointKey Key = "checkpoint"
)

// Kind is the first token of a key.
type Kind string

// The kinds of aggregates.
const (
	KindDefinition Kind = "definition"
	KindDomain     Kind = "domain"
	KindInstance   Kind = "instance"
	KindDecision   Kind = "decision"
	KindLeader     Kind = "leader"
	KindPass       Kind = "pass"
)

// DomainID names a domain by its owner and its name, both plain.
type DomainID struct{ Owner, Name string }

// Key is the key of the domain's document and events.
func (d DomainID) Key() Key { return Key("domain." + d.tokens()) }

// DecisionKey is the key of the domain's decision document and events.
func (d DomainID) DecisionKey() Key { return Key("decision." + d.tokens()) }

// InstanceKey is the key of one of the domain's instances.
func (d DomainID) InstanceKey(id string) Key { return Key("instance." + d.tokens() + "." + Token(id)) }

// AllInstances is the key filter that matches all of the domain's instances.
func (d DomainID) AllInstances() Key { return Key("instance." + d.tokens() + ".*") }

// Keys are the key filters that match all that a domain's decisions rest on: itself, its
// decisions and its instances.
func (d DomainID) Keys() []Key { return []Key{d.Key(), d.DecisionKey(), d.AllInstances()} }

// AnyInstance is the key filter that matches an owner's ("": anybody's) instance,
// whatever its domain.
func AnyInstance(owner, id string) Key {
	token := "*"
	if owner != "" {
		token = Token(owner)
	}
	return Key("instance." + token + ".*." + Token(id))
}

// OfOwner are the key filters that match all that an owner has: domains, decisions and
// instances.
func OfOwner(owner string) []Key {
	token := Token(owner)
	return []Key{AllDomains(owner), Key("decision." + token + ".*"), Key("instance." + token + ".*.*")}
}

func (d DomainID) tokens() string { return Token(d.Owner) + "." + Token(d.Name) }

// DefinitionKey is the key of a definition's document and events.
func DefinitionKey(name string) Key { return Key("definition." + Token(name)) }

// Kind is the key's first token.
func (k Key) Kind() Kind {
	kind, _, _ := strings.Cut(string(k), ".")
	return Kind(kind)
}

// Parts splits a key into what it names: the domain (zero for a definition,
// leader and pass) and the instance's id or the definition's name, both plain.
// ok is false where the key has none of the forms above.
func (k Key) Parts() (domain DomainID, name string, ok bool) {
	kind, rest, _ := strings.Cut(string(k), ".")
	switch Kind(kind) {
	case KindLeader, KindPass:
		return DomainID{}, "", rest == "" && kind == string(k)
	case KindDefinition:
		name, err := ParseToken(rest)
		return DomainID{}, name, err == nil
	case KindDomain, KindDecision:
		domain, ok = parseDomain(rest)
		return domain, "", ok
	case KindInstance:
		i := strings.LastIndexByte(rest, '.')
		if i < 0 {
			return DomainID{}, "", false
		}
		name, err := ParseToken(rest[i+1:])
		domain, ok = parseDomain(rest[:i])
		return domain, name, ok && err == nil
	}
	return DomainID{}, "", false
}

func parseDomain(tokens string) (DomainID, bool) {
	owner, name, ok := strings.Cut(tokens, ".")
	if !ok {
		return DomainID{}, false
	}
	o, err1 := ParseToken(owner)
	n, err2 := ParseToken(name)
	return DomainID{Owner: o, Name: n}, err1 == nil && err2 == nil
}

// AllDomains is the key filter that matches all domains of an owner.
func AllDomains(owner string) Key { return Key("domain." + Token(owner) + ".*") }

// Everything are the key filters that together match all events.
func Everything() []Key {
	return []Key{AllDefinitions, "domain.*.*", "instance.*.*.*", "decision.*.*", LeaderKey, PassKey}
}

// Narrow gives those of the key filters that may have events of some types. Without types it
// gives all of them.
func Narrow(keys []Key, types map[string]bool) (some []Key) {
	if len(types) == 0 {
		return keys
	}
	for _, k := range keys {
		for typ := range types {
			if KindOf(typ) == k.Kind() {
				some = append(some, k)
				break
			}
		}
	}
	return some
}

// AllDefinitions is the key filter that matches all definitions.
const AllDefinitions Key = "definition.*"
