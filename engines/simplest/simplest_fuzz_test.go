package simplest_test

import (
	"testing"

	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/simplest"
)

func FuzzConf(f *testing.F) { enginetest.FuzzConf(f, simplest.Kind(simplest.DefaultSite)) }
