{{- define "ebb-webhook.name" -}}
{{- if contains "ebb-webhook" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-ebb-webhook" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "ebb-webhook.selector" -}}
app.kubernetes.io/name: ebb-webhook
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ebb-webhook.labels" -}}
{{ include "ebb-webhook.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "ebb-webhook.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "ebb-webhook.secret" -}}
{{ .Values.certificate.existingSecret | default (printf "%s-tls" (include "ebb-webhook.name" .)) }}
{{- end -}}

{{/* What is injected unless a pod says otherwise: EBB_INJECT_… for each setting. */}}
{{- define "ebb-webhook.injection" -}}
{{- $defaults := dict "image" (include "ebb-webhook.image" .) "classic" (semverCompare "<1.33-0" .Capabilities.KubeVersion.Version) -}}
{{- range $setting, $value := mergeOverwrite $defaults .Values.injection }}
- name: EBB_INJECT_{{ $setting | upper | replace "-" "_" }}
  value: {{ (kindIs "float64" $value | ternary (int $value) $value) | toString | quote }}
{{- end }}
{{- end -}}
