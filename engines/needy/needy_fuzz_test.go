package needy_test

import (
	"testing"

	"github.com/seed-524e47bf/epum/engines/enginetest"
	"github.com/seed-524e47bf/epum/engines/needy"
)

func FuzzConf(f *testing.F) { enginetest.FuzzConf(f, needy.Kind()) }
