// What templates can call: sprig without the environment, and what helm adds.
package main

import (
	"encoding/json"
	"errors"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
)

// Longest chain of templates that include each other. Source: helm's own bound.
const includesMax = 1000

func functions(set *template.Template) template.FuncMap {
	all := sprig.TxtFuncMap()
	// A chart must not depend on who renders it.
	delete(all, "env")
	delete(all, "expandenv")
	depth := 0
	all["include"] = func(name string, data any) (string, error) {
		if depth++; depth > includesMax {
			return "", errors.New("templates include each other without end: " + name)
		}
		defer func() { depth-- }()
		return execute(set, name, data)
	}
	all["tpl"] = func(text string, data any) (string, error) {
		copied, err := set.Clone()
		if err != nil {
			return "", err
		}
		if _, err := copied.New("tpl").Parse(text); err != nil {
			return "", err
		}
		return execute(copied, "tpl", data)
	}
	all["required"] = func(message string, value any) (any, error) {
		if text, ok := value.(string); value == nil || (ok && text == "") {
			return nil, errors.New(message)
		}
		return value, nil
	}
	all["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	all["toYaml"] = func(value any) (string, error) {
		text, err := writeYAML(value)
		return strings.TrimSuffix(text, "\n"), err
	}
	all["fromYaml"] = parseYAML
	all["toJson"] = func(value any) (string, error) {
		text, err := json.Marshal(value)
		return string(text), err
	}
	return all
}
