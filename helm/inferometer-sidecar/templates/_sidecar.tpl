{{/*
The sidecar, from values such as this chart's. An entry of initContainers: a native sidecar starts before the server,
stops after it, and counts for neither. Its startup probe asks only whether it listens: the server waits for it.
It requests no GPU and no token. Both templates give a list item.
*/}}
{{- define "inferometer.sidecar.container" -}}
- name: inferometer
  image: {{ .image | quote }}
  imagePullPolicy: {{ .imagePullPolicy }}
  restartPolicy: Always
  args:
    - run
    - --engine.url={{ .engineUrl }}
    - --workload=$(POD_NAMESPACE)/$(WORKLOAD)
    - --web.listen-address=:{{ int .port }}
    - --storage.path=/var/lib/inferometer
    {{- if eq .gpus.source "dcgm" }}
    - --gpu.sources=dcgm
    - --gpu.dcgm-url={{ .gpus.dcgmUrl }}
    {{- end }}
    {{- with .gpus.held }}
    - --gpus={{ . }}
    {{- end }}
    {{- with .price.gpuHour }}
    - --price.gpu-hour={{ . }}
    {{- end }}
    {{- range $name := list "ttft" "tpot" "e2e" }}
    {{- with index $.slo $name }}
    - --slo.{{ $name }}={{ . }}
    {{- end }}
    {{- end }}
    {{- range .extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    - name: POD_NAMESPACE
      valueFrom:
        fieldRef:
          fieldPath: metadata.namespace
    - name: NODE_IP
      valueFrom:
        fieldRef:
          fieldPath: status.hostIP
    - name: WORKLOAD
      valueFrom:
        fieldRef:
          fieldPath: metadata.labels['{{ .workloadLabel }}']
    {{- if eq .gpus.source "nvml" }}
    - name: NVIDIA_VISIBLE_DEVICES
      value: all
    - name: NVIDIA_DRIVER_CAPABILITIES
      value: utility
    {{- end }}
  ports:
    - name: inferometer
      containerPort: {{ int .port }}
      protocol: TCP
  startupProbe:
    tcpSocket:
      port: inferometer
    periodSeconds: 1
    failureThreshold: 60
  livenessProbe:
    httpGet:
      path: /-/healthy
      port: inferometer
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  resources:
    {{- toYaml .resources | nindent 4 }}
  securityContext:
    allowPrivilegeEscalation: false
    capabilities:
      drop:
        - ALL
    readOnlyRootFilesystem: true
    runAsGroup: 65532
    runAsNonRoot: true
    runAsUser: 65532
    seccompProfile:
      type: RuntimeDefault
  volumeMounts:
    - name: inferometer-ledger
      mountPath: /var/lib/inferometer
{{- end }}

{{- define "inferometer.sidecar.volume" -}}
- name: inferometer-ledger
  {{- toYaml .ledger | nindent 2 }}
{{- end }}
