// The values: those of the chart, then files, then --set; checked against the chart's schema.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/xeipuuv/gojsonschema"
	"gopkg.in/yaml.v3"
)

func (r rendering) values() (map[string]any, error) {
	values, err := readYAML(filepath.Join(r.chart, "values.yaml"))
	if err != nil {
		return nil, err
	}
	for _, name := range r.files {
		over, err := readYAML(name)
		if err != nil {
			return nil, err
		}
		merge(values, over)
	}
	for _, set := range r.sets {
		if err := assign(values, set); err != nil {
			return nil, err
		}
	}
	return values, fits(filepath.Join(r.chart, "values.schema.json"), values)
}

// merge puts over into values: objects key by key, anything else whole; null takes a key away.
func merge(values, over map[string]any) {
	for key, value := range over {
		below, isObject := value.(map[string]any)
		there, wasObject := values[key].(map[string]any)
		switch {
		case value == nil:
			delete(values, key)
		case isObject && wasObject:
			merge(there, below)
		default:
			values[key] = value
		}
	}
}

// assign does what `--set a.b=c` and `--set a.b={c,d}` do.
func assign(values map[string]any, set string) error {
	place, text, ok := strings.Cut(set, "=")
	if !ok {
		return fmt.Errorf("--set %q: KEY=VALUE is expected", set)
	}
	keys := strings.Split(place, ".")
	var value any = scalar(text)
	if strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") {
		list := []any{}
		for _, item := range strings.Split(text[1:len(text)-1], ",") {
			if item != "" {
				list = append(list, scalar(item))
			}
		}
		value = list
	}
	over := map[string]any{keys[len(keys)-1]: value}
	for at := len(keys) - 2; at >= 0; at-- {
		over = map[string]any{keys[at]: over}
	}
	merge(values, over)
	return nil
}

// scalar is what helm takes a word for: true, false, null, a whole number, or text.
func scalar(text string) any {
	switch text {
	case "true":
		return true
	case "false":
		return false
	case "null":
		return nil
	}
	var number int
	if _, err := fmt.Sscanf(text, "%d", &number); err == nil && fmt.Sprint(number) == text {
		return number
	}
	return text
}

// fits holds the values against the schema, as helm does, with the same library.
func fits(schema string, values map[string]any) error {
	text, err := os.ReadFile(schema)
	if err != nil {
		return err
	}
	object, err := json.Marshal(values)
	if err != nil {
		return err
	}
	result, err := gojsonschema.Validate(gojsonschema.NewBytesLoader(text), gojsonschema.NewBytesLoader(object))
	if err != nil {
		return err
	}
	var faults []string
	for _, fault := range result.Errors() {
		faults = append(faults, fault.String())
	}
	if len(faults) > 0 {
		return errors.New("values don't meet the specifications of the schema: " + strings.Join(faults, "; "))
	}
	return nil
}

func readYAML(name string) (map[string]any, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	value, err := parseYAML(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return value, nil
}

func parseYAML(text string) (map[string]any, error) {
	value := map[string]any{}
	return value, yaml.Unmarshal([]byte(text), &value)
}

func writeYAML(value any) (string, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	return out.String(), encoder.Close()
}
