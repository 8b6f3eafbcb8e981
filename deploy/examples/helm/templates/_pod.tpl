{{/* The pod's spec, as it would be without ebb. */}}
{{- define "shop.pod" -}}
containers:
  - name: app
    image: shop:1
    ports:
      - {name: http, containerPort: 3000}
    readinessProbe:
      httpGet: {path: /healthz, port: http}
{{- end -}}
