package phantommulti_test

import (
	"testing"

	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/phantommulti"
)

func FuzzConf(f *testing.F) { enginetest.FuzzConf(f, phantommulti.Kind()) }
