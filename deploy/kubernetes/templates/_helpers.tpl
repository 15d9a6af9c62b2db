{{/*
What several templates share. Names are fixed: two Callgates on a node would share pins, sockets and state.
*/}}

{{/* Labels of every object. Call with (list . COMPONENT). */}}
{{- define "callgate.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: callgate
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
{{- end }}

{{/* Labels that select the pods of a component. Call with (list . COMPONENT). */}}
{{- define "callgate.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: callgate
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Full name of a component's image. Call with (list . COMPONENT). */}}
{{- define "callgate.image" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $image := $root.Values.image -}}
{{- (index $root.Values $component).image | default (printf "%s/callgate-%s:%s" $image.registry $component ($image.tag | default $root.Chart.AppVersion)) -}}
{{- end }}

{{/* Name of the DaemonSet of this generation, and of its ConfigMap. */}}
{{- define "callgate.agentName" -}}
callgate-agent{{ with .Values.agent.generation }}-{{ . }}{{ end }}
{{- end }}

{{/* Where agents send records; empty: nowhere. */}}
{{- define "callgate.collectorUrl" -}}
{{- if .Values.collector.enabled -}}
{{- $address := .Values.collector.clusterIP -}}
https://{{ if contains ":" $address }}[{{ $address }}]{{ else }}{{ $address | default (printf "callgate-collector.%s.svc" .Release.Namespace) }}{{ end }}:7443
{{- else -}}
{{ .Values.collector.external.url }}
{{- end -}}
{{- end }}

{{/*
The API's credentials: what automounting would give, but bound to this pod, one hour long, and in the pods that need
them alone. The token's audience is the API server's own.
*/}}
{{- define "callgate.apiVolume" -}}
- name: api
  projected:
    # 0444 in octal.
    defaultMode: 292
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                apiVersion: v1
                fieldPath: metadata.namespace
{{- end }}
{{- define "callgate.apiMount" -}}
- name: api
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end }}

{{/* Where pods may run and who wins, of a component's values. */}}
{{- define "callgate.scheduling" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Secrets for pulling images. */}}
{{- define "callgate.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Of a container that needs nothing of the node: not even root. */}}
{{- define "callgate.unprivileged" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* How pods come to trust the CA: policy, webhook or none. */}}
{{- define "callgate.admission" -}}
{{- if .Values.agent.remove -}}
none
{{- else if ne .Values.trust.admission "auto" -}}
{{ .Values.trust.admission }}
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
policy
{{- else -}}
webhook
{{- end -}}
{{- end }}
