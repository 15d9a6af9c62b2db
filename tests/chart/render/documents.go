// Documents of the templates' output, in the order in which helm installs them.
package main

import (
	"fmt"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"
)

// document is one object, as text and parsed.
type document struct {
	source, text, kind string
	object             map[string]any
	crd                bool
}

// installOrder is helm's, of the kinds that the chart may have; what is not in it comes last.
var installOrder = []string{
	"Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "PodDisruptionBudget", "ServiceAccount", "Secret",
	"ConfigMap", "StorageClass", "PersistentVolume", "PersistentVolumeClaim", "CustomResourceDefinition", "ClusterRole",
	"ClusterRoleBinding", "Role", "RoleBinding", "Service", "DaemonSet", "Pod", "ReplicaSet", "Deployment",
	"StatefulSet", "Job", "CronJob", "IngressClass", "Ingress", "APIService", "MutatingWebhookConfiguration",
	"ValidatingWebhookConfiguration",
}

func (d document) rank() int {
	if d.crd {
		return -1
	}
	for rank, kind := range installOrder {
		if kind == d.kind {
			return rank
		}
	}
	return len(installOrder)
}

func inOrder(files []file) ([]document, error) {
	var all []document
	for _, file := range files {
		for _, text := range strings.Split("\n"+file.text, "\n---") {
			text = strings.Trim(text, "\n")
			object := map[string]any{}
			// With the end of line that printing gives it: it counts in a last block of text.
			if err := yaml.Unmarshal([]byte(text+"\n"), &object); err != nil {
				return nil, fmt.Errorf("%s makes no YAML: %w\n%s", file.source, err, numbered(text))
			}
			if len(object) == 0 {
				continue
			}
			kind, _ := object["kind"].(string)
			all = append(all, document{file.source, text, kind, object, file.crd})
		}
	}
	sort.SliceStable(all, func(a, b int) bool { return all[a].rank() < all[b].rank() })
	return all, nil
}

func numbered(text string) string {
	var out strings.Builder
	for number, line := range strings.Split(text, "\n") {
		fmt.Fprintf(&out, "%4d %s\n", number+1, line)
	}
	return out.String()
}
