{{/* How the agent's pages are spoken to: http or https. */}}
{{- define "inferometer.scheme" -}}
{{- if and .tls (not .existingSecret) }}
{{- fail "webConfig.tls needs webConfig.existingSecret: the file in it turns TLS on" }}
{{- end }}
{{- if and .clientCertificates (not .tls) }}
{{- fail "webConfig.clientCertificates needs webConfig.tls" }}
{{- end }}
{{- ternary "https" "http" .tls }}
{{- end }}

{{/* A probe as the kubelet can make it: it takes any certificate, and has none of its own. */}}
{{- define "inferometer.probe" -}}
{{- $probe := deepCopy .probe }}
{{- $scheme := include "inferometer.scheme" .web }}
{{- if $probe.httpGet }}
{{- if .web.clientCertificates }}
{{- $_ := set $probe "tcpSocket" (dict "port" $probe.httpGet.port) }}
{{- $_ := unset $probe "httpGet" }}
{{- else if .web.tls }}
{{- $_ := set $probe.httpGet "scheme" (upper $scheme) }}
{{- end }}
{{- end }}
{{- toYaml $probe }}
{{- end }}
