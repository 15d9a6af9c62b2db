// A chart and what is asked of it, made into the texts of its templates.
package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/semver"
)

// rendering is what `helm template` would be called with.
type rendering struct {
	chart, release, namespace, kube string
	apis, files, sets               []string
	crds                            bool
}

// file is a template's output, or a CRD as it is.
type file struct {
	source, text string
	crd          bool
}

type rendered struct {
	files []file
	notes string
}

// Helm's own default for `helm template` is that of its release; ours is written down with each rendering.
const newestKube = "v1.36.0"

func (r rendering) render() (*rendered, error) {
	chart, err := r.chartFile()
	if err != nil {
		return nil, err
	}
	name, _ := chart["Name"].(string)
	values, err := r.values()
	if err != nil {
		return nil, err
	}
	capabilities, err := r.capabilities(chart)
	if err != nil {
		return nil, err
	}
	context := map[string]any{
		"Values":       values,
		"Chart":        chart,
		"Capabilities": capabilities,
		"Files":        chartFiles{r.chart},
		"Release": map[string]any{
			"Name": r.release, "Namespace": r.namespace, "Service": "Helm",
			"IsInstall": true, "IsUpgrade": false, "Revision": 1,
		},
	}
	set, paths, err := parse(filepath.Join(r.chart, "templates"), path.Join(name, "templates"))
	if err != nil {
		return nil, err
	}
	out := &rendered{}
	if r.crds {
		if out.files, err = r.crdFiles(name); err != nil {
			return nil, err
		}
	}
	for _, source := range paths {
		if strings.HasPrefix(path.Base(source), "_") {
			continue
		}
		context["Template"] = map[string]any{"Name": source, "BasePath": path.Join(name, "templates")}
		text, err := execute(set, source, context)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(source, ".txt") {
			out.notes += text
		} else {
			out.files = append(out.files, file{source: source, text: text})
		}
	}
	return out, nil
}

// chartFile is Chart.yaml, with keys as templates name them.
func (r rendering) chartFile() (map[string]any, error) {
	read, err := readYAML(filepath.Join(r.chart, "Chart.yaml"))
	if err != nil {
		return nil, err
	}
	chart := map[string]any{}
	for key, value := range read {
		switch key {
		case "apiVersion":
			chart["APIVersion"] = value
		default:
			chart[strings.ToUpper(key[:1])+key[1:]] = value
		}
	}
	return chart, nil
}

func (r rendering) capabilities(chart map[string]any) (map[string]any, error) {
	asked := r.kube
	if asked == "" {
		asked = newestKube
	}
	version, err := semver.NewVersion(asked)
	if err != nil {
		return nil, fmt.Errorf("--kube-version %q: %w", asked, err)
	}
	if wanted, ok := chart["KubeVersion"].(string); ok {
		constraint, err := semver.NewConstraint(wanted)
		if err != nil {
			return nil, fmt.Errorf("kubeVersion: %w", err)
		}
		if !constraint.Check(version) {
			return nil, fmt.Errorf("chart requires kubeVersion: %s which is incompatible with Kubernetes %s", wanted, asked)
		}
	}
	return map[string]any{
		"KubeVersion": kubeVersion{
			"v" + version.String(), fmt.Sprint(version.Major()), fmt.Sprint(version.Minor()), "v" + version.String(),
		},
		"APIVersions": apiVersions(r.apis),
	}, nil
}

type kubeVersion struct{ Version, Major, Minor, GitVersion string }

func (v kubeVersion) String() string { return v.Version }

type apiVersions []string

// Has tells whether the API server has GROUP/VERSION or GROUP/VERSION/KIND.
func (a apiVersions) Has(wanted string) bool {
	for _, version := range a {
		if version == wanted {
			return true
		}
	}
	return false
}

// chartFiles is `.Files`: what else lies in the chart's folder.
type chartFiles struct{ root string }

// Get is the text of a file; empty where there is none.
func (f chartFiles) Get(name string) string {
	text, err := os.ReadFile(filepath.Join(f.root, filepath.Clean("/"+name)))
	if err != nil {
		return ""
	}
	return string(text)
}

// crdFiles are taken as they are, as helm does.
func (r rendering) crdFiles(name string) ([]file, error) {
	var files []file
	paths, err := filepath.Glob(filepath.Join(r.chart, "crds", "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, found := range paths {
		text, err := os.ReadFile(found)
		if err != nil {
			return nil, err
		}
		files = append(files, file{path.Join(name, "crds", filepath.Base(found)), string(text), true})
	}
	return files, nil
}

// parse reads all templates into one set, each under its path from the chart's name on.
func parse(folder, base string) (*template.Template, []string, error) {
	set := template.New("chart")
	// Helm's option: a key that is not there is empty.
	set.Option("missingkey=zero")
	set.Funcs(functions(set))
	var paths []string
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			return nil, nil, err
		}
		source := path.Join(base, entry.Name())
		if _, err := set.New(source).Parse(string(text)); err != nil {
			return nil, nil, err
		}
		paths = append(paths, source)
	}
	return set, paths, nil
}

func execute(set *template.Template, name string, data any) (string, error) {
	var out strings.Builder
	if err := set.ExecuteTemplate(&out, name, data); err != nil {
		return "", err
	}
	return strings.ReplaceAll(out.String(), "<no value>", ""), nil
}
