// Renders deploy/kubernetes as helm does, for continuous integration alone: `cargo xtask chart` builds and calls it.
//
// It stands on Go's own text/template and Debian's packages of sprig, YAML and JSON schema, which is what helm is made
// of. It offers what the chart uses and no more: no dependencies of charts, no lookup, no hooks. Users take helm, or what
// lies in deploy/kubernetes/rendered.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

// texts is a flag that may be given several times.
type texts []string

func (t *texts) String() string     { return fmt.Sprint(*t) }
func (t *texts) Set(s string) error { *t = append(*t, s); return nil }

func main() {
	var sets, files, apis texts
	chart := flag.String("chart", "deploy/kubernetes", "folder of the chart")
	release := flag.String("release", "callgate", "name of the release")
	namespace := flag.String("namespace", "callgate-system", "namespace of the release")
	kube := flag.String("kube-version", "", "version of the API server, vMAJOR.MINOR.PATCH")
	crds := flag.Bool("include-crds", false, "what is in crds/ first")
	asJSON := flag.Bool("json", false, "one JSON array of documents instead of YAML")
	notes := flag.Bool("notes", false, "NOTES.txt alone")
	parse := flag.Bool("parse", false, "instead: YAML from stdin as a JSON array of documents")
	flag.Var(&sets, "set", "KEY=VALUE, with dots; {a,b} is a list")
	flag.Var(&files, "values", "file of values")
	flag.Var(&apis, "api-version", "GROUP/VERSION/KIND that the API server has")
	flag.Parse()
	what := rendering{*chart, *release, *namespace, *kube, apis, files, sets, *crds}
	work := func() error { return run(what, *asJSON, *notes) }
	if *parse {
		work = parseAll
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run(what rendering, asJSON, notes bool) error {
	rendered, err := what.render()
	if err != nil {
		return err
	}
	if notes {
		fmt.Print(rendered.notes)
		return nil
	}
	documents, err := inOrder(rendered.files)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(documents)
	}
	for _, document := range documents {
		fmt.Printf("---\n# Source: %s\n%s\n", document.source, document.text)
	}
	return nil
}

func parseAll() error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	documents, err := inOrder([]file{{source: "stdin", text: string(text)}})
	if err != nil {
		return err
	}
	return writeJSON(documents)
}

func writeJSON(documents []document) error {
	objects := make([]any, 0, len(documents))
	for _, document := range documents {
		objects = append(objects, document.object)
	}
	return json.NewEncoder(os.Stdout).Encode(objects)
}
