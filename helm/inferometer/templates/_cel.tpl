{{/*
A value as CEL writes it. type: the path of its type below Object, as admission policies name types; in maps of
quantities keys are text, everywhere else they are fields.
*/}}
{{- define "inferometer.cel" -}}
{{- $value := .value }}
{{- $type := .type }}
{{- if kindIs "map" $value }}
{{- $plain := or (hasSuffix ".limits" $type) (hasSuffix ".requests" $type) }}
{{- $fields := list }}
{{- range $key := keys $value | sortAlpha }}
{{- $inner := include "inferometer.cel" (dict "value" (index $value $key) "type" (printf "%s.%s" $type $key)) }}
{{- $fields = append $fields (printf "%s: %s" (ternary ($key | toJson) $key $plain) $inner) }}
{{- end }}
{{- ternary "" $type $plain }}{ {{- join ", " $fields -}} }
{{- else if kindIs "slice" $value }}
{{- $items := list }}
{{- range $value }}
{{- $items = append $items (include "inferometer.cel" (dict "value" . "type" $type)) }}
{{- end }}
{{- "[" }}{{ join ", " $items }}{{ "]" }}
{{- else }}
{{- toRawJson $value }}
{{- end }}
{{- end }}
