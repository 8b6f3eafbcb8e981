{{/*
ebb.sidecar: the pod's spec with ebb in it.

    spec:
      {{- include "ebb.sidecar" (list . "shop.pod") | nindent 6 }}

where "shop.pod" is a template of your chart that gives the pod's spec. Settings are `.Values.ebb`. It does to the spec what `ebb inject` does.
*/}}
{{- define "ebb.sidecar" -}}
{{- $root := index . 0 -}}
{{- $spec := fromYaml (include (index . 1) $root) -}}
{{- with $spec.Error }}{{ fail (printf "ebb: %s is no pod spec: %s" (index $ 1) .) }}{{ end -}}
{{- if $root.Values.ebb.enabled -}}
{{- $ebb := $root.Values.ebb -}}
{{- $classic := eq "true" (include "ebb.classic" $root) -}}
{{- $_ := required "ebb: set ebb.token, made once with `openssl rand -hex 16`" $ebb.token -}}
{{- $app := dict -}}
{{- range $spec.containers -}}
  {{- $container := . -}}
  {{- range (.ports | default list) -}}
    {{- if and (eq (.protocol | default "TCP") "TCP") (or (eq (toString $ebb.port) (.name | default "")) (eq (toString $ebb.port) (toString .containerPort))) -}}
      {{- if not $app.container }}{{ $_ := set $app "container" $container }}{{ $_ := set $app "port" . }}{{ end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if not $app.container }}{{ fail (printf "ebb: no container has the TCP port %v: name it, or set ebb.port" $ebb.port) }}{{ end -}}
{{- $number := int $app.port.containerPort -}}
{{- $grace := max (int $ebb.gracePeriodSeconds) (int ($spec.terminationGracePeriodSeconds | default 30)) -}}
{{- $_ := set $spec "terminationGracePeriodSeconds" $grace -}}
{{- $listen := include "ebb.listen" (dict "ebb" $ebb "number" $number) | int -}}
{{- $taken := list (int $ebb.adminPort) -}}
{{- range $spec.containers }}{{ range (.ports | default list) }}{{ $taken = append $taken (int .containerPort) }}{{ end }}{{ end -}}
{{- if has $listen $taken }}{{ fail (printf "ebb: something else listens on %d: set ebb.listen to a port that is free in the pod" $listen) }}{{ end -}}
{{- $port := dict "containerPort" $listen -}}
{{- if not $spec.hostNetwork -}}
  {{- range list "hostPort" "hostIP" -}}
    {{- if hasKey $app.port . }}{{ $_ := set $port . (index $app.port .) }}{{ $_ := unset $app.port . }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- with $app.port.name -}}
  {{- $name := . -}}
  {{- $_ := set $port "name" $name -}}
  {{- $_ := unset $app.port "name" -}}
  {{- /* The app's own probes and hooks still go to the app. */ -}}
  {{- $users := list $app.container.livenessProbe $app.container.readinessProbe $app.container.startupProbe -}}
  {{- range append $users (dig "lifecycle" "postStart" dict $app.container) -}}
    {{- $user := . | default dict -}}
    {{- range list "httpGet" "tcpSocket" -}}
      {{- with index $user . }}{{ if eq (toString .port) $name }}{{ $_ := set . "port" $number }}{{ end }}{{ end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $lifecycle := $app.container.lifecycle | default dict -}}
{{- if and $lifecycle.preStop (not $ebb.replaceHook) -}}
  {{- fail (printf "ebb: container %s has a preStop hook: what it does belongs into the app's SIGTERM handler; or set ebb.replaceHook" $app.container.name) -}}
{{- end -}}
{{- $hook := fromYaml (include "ebb.hook" (dict "ebb" $ebb "classic" $classic)) -}}
{{- $_ := set $app.container "lifecycle" (mergeOverwrite (deepCopy $lifecycle) (dict "preStop" $hook)) -}}
{{- $container := fromYaml (include "ebb.container" (dict "ebb" $ebb "classic" $classic "number" $number "grace" $grace)) -}}
{{- $_ := set $container "ports" (list $port (dict "name" "ebb-admin" "containerPort" (int $ebb.adminPort))) -}}
{{- if eq (toString (dig "securityContext" "runAsUser" "" $spec)) "0" -}}
  {{- $_ := set $container.securityContext "runAsUser" 65532 -}}
{{- end -}}
{{- if eq $ebb.scheme "https" -}}
  {{- $volume := dict "name" "ebb-tls" "secret" (dict "secretName" (required "ebb: https wants ebb.tlsSecret" $ebb.tlsSecret)) -}}
  {{- $_ := set $spec "volumes" (append ($spec.volumes | default list) $volume) -}}
{{- end -}}
{{- $where := ternary "containers" "initContainers" $classic -}}
{{- $_ := set $spec $where (append (index $spec $where | default list) $container) -}}
{{- end -}}
{{- toYaml $spec -}}
{{- end -}}

{{/* Whether it is to be a classic sidecar: "true" or "false". */}}
{{- define "ebb.classic" -}}
{{- if kindIs "bool" .Values.ebb.classic -}}
{{ .Values.ebb.classic }}
{{- else -}}
{{ semverCompare "<1.33-0" .Capabilities.KubeVersion.Version }}
{{- end -}}
{{- end -}}

{{/* Where ebb listens for the app's port. */}}
{{- define "ebb.listen" -}}
{{- if .ebb.listen }}{{ .ebb.listen }}{{ else if gt (int .number) 55535 }}{{ sub .number 10000 }}{{ else }}{{ add .number 10000 }}{{ end -}}
{{- end -}}

{{/*
The preStop hook, by the admin port's number: a name would be looked up in the wrong container. Kubelets before 1.26, which a classic sidecar is for,
send no headers with it.
*/}}
{{- define "ebb.hook" -}}
httpGet:
  port: {{ .ebb.adminPort }}
{{- if .classic }}
  path: {{ printf "/drain?token=%s" (urlquery .ebb.token) | quote }}
{{- else }}
  path: /drain
  httpHeaders:
    - name: Authorization
      value: {{ printf "Bearer %s" .ebb.token | quote }}
{{- end }}
{{- end -}}

{{- define "ebb.container" -}}
{{- $ebb := .ebb -}}
name: ebb
image: {{ $ebb.image | quote }}
{{- with $ebb.imagePullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- if not .classic }}
restartPolicy: Always
{{- end }}
args:
  - proxy
  - --forward
  - {{ printf "%s%s=%d" (ternary "" (printf "%s://" $ebb.scheme) (eq $ebb.scheme "http")) (include "ebb.listen" .) (int .number) | quote }}
  {{- if eq $ebb.scheme "https" }}
  - --tls-cert
  - /tls/tls.crt
  - --tls-key
  - /tls/tls.key
  {{- end }}
  {{- if ne (int $ebb.adminPort) 9900 }}
  - --admin
  - {{ $ebb.adminPort | quote }}
  {{- end }}
  - --grace-period
  - {{ .grace }}s
  {{- range $flag, $time := dict "app-shutdown" $ebb.appShutdown "lame-duck-min" $ebb.lameDuckMin "lame-duck-max" $ebb.lameDuckMax "quiet" $ebb.quiet }}
  {{- with $time }}
  - --{{ $flag }}
  - {{ . }}
  {{- end }}
  {{- end }}
env:
  - name: EBB_ADMIN_TOKEN
    value: {{ $ebb.token | quote }}
  {{- range $name, $value := $ebb.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
startupProbe:
  httpGet: {path: /startupz, port: {{ $ebb.adminPort }}}
  periodSeconds: 1
livenessProbe:
  httpGet: {path: /livez, port: {{ $ebb.adminPort }}}
  periodSeconds: 10
readinessProbe:
  httpGet: {path: /readyz, port: {{ $ebb.adminPort }}}
  periodSeconds: 2
  failureThreshold: 2
{{- if .classic }}
lifecycle:
  preStop: {{- include "ebb.hook" . | nindent 4 }}
{{- end }}
resources: {{- toYaml $ebb.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- if eq $ebb.scheme "https" }}
volumeMounts:
  - {name: ebb-tls, mountPath: /tls, readOnly: true}
{{- end }}
{{- end -}}
