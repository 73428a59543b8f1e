package phantom_test

import (
	"testing"

	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/phantom"
)

func FuzzConf(f *testing.F) { enginetest.FuzzConf(f, phantom.Kind()) }
