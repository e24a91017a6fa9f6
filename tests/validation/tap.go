// Package tap writes the Test Anything Protocol for the OCI validation programs.
//
// They import it as github.com/mndrix/tap-go, which Debian does not have: this file stands in for
// it, with the part that they call. What it writes is read by programs.py.
package tap

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// T counts the checks of one program. With TODO, a failure counts for nothing.
type T struct {
	TODO  bool
	count *int
}

// New begins a program's checks.
func New() *T { return &T{count: new(int)} }

// Header writes the plan; a plan of zero checks is left to AutoPlan, at the end.
func (t *T) Header(planned int) {
	fmt.Println("TAP version 13")
	if planned > 0 {
		fmt.Printf("1..%d\n", planned)
	}
}

// AutoPlan writes the plan after the checks.
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", *t.count) }

// Ok writes one check.
func (t *T) Ok(passed bool, description string) {
	*t.count++
	verdict, directive := "ok", ""
	if !passed {
		verdict = "not ok"
	}
	if t.TODO {
		directive = " # TODO"
	}
	fmt.Printf("%s %d - %s%s\n", verdict, *t.count, oneLine(description), directive)
}

// Pass writes a check that passed.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail writes a check that failed.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip writes checks that could not be made.
func (t *T) Skip(checks int, description string) {
	for ; checks > 0; checks-- {
		*t.count++
		fmt.Printf("ok %d # SKIP %s\n", *t.count, oneLine(description))
	}
}

// Todo returns the same checks, as ones that are allowed to fail.
func (t *T) Todo() *T { return &T{TODO: true, count: t.count} }

// Diagnostic writes a comment.
func (t *T) Diagnostic(message string) {
	fmt.Println("# " + strings.ReplaceAll(strings.TrimSuffix(message, "\n"), "\n", "\n# "))
}

// Diagnosticf writes a comment, formatted.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML adds a document to the last check; JSON is YAML.
func (t *T) YAML(document interface{}) error {
	text, err := json.Marshal(document)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return err
	}
	fmt.Printf("  ---\n  %s\n  ...\n", text)
	return nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
