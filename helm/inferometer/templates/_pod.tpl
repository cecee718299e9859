{{/* The configuration: what the chart sets, and over it what the values say. */}}
{{- define "inferometer.config" -}}
{{- $gpu := dict "sources" (list) }}
{{- if ne .Values.gpus.source "none" }}
{{- $gpu = dict "sources" (list .Values.gpus.source) }}
{{- end }}
{{- if eq .Values.gpus.source "dcgm" }}
{{- $_ := set $gpu "dcgm_url" .Values.gpus.dcgmUrl }}
{{- end }}
{{- if .Values.gpus.podResources }}
{{- $_ := set $gpu "pod_resources" "/var/lib/kubelet/pod-resources/kubelet.sock" }}
{{- end }}
{{- $set := dict "gpu" $gpu "web" (dict "listen_address" ":10110") }}
{{- if ne .Values.ledger.type "none" }}
{{- $_ := set $set "storage" (dict "path" "/var/lib/inferometer") }}
{{- end }}
{{- if .Values.discovery.enabled }}
{{- $look := dict "namespaces" .Values.discovery.namespaces }}
{{- if eq .Values.mode "daemonset" }}
{{- $_ := set $look "node" "$(NODE_NAME)" }}
{{- end }}
{{- $_ := set $set "kubernetes" $look }}
{{- end }}
{{- mustMergeOverwrite $set (deepCopy .Values.config) | toYaml }}
{{- end }}

{{/* The pod template of both modes. */}}
{{- define "inferometer.pod" -}}
metadata:
  annotations:
    {{- if not .Values.existingConfigMap }}
    checksum/config: {{ include "inferometer.config" . | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "inferometer.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "inferometer.serviceAccount" . }}
  automountServiceAccountToken: {{ .Values.discovery.enabled }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if eq .Values.gpus.source "nvml" }}
  {{- with .Values.gpus.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- end }}
  securityContext:
    {{- if .Values.gpus.podResources }}
    {{- mergeOverwrite (deepCopy .Values.podSecurityContext) (dict "runAsUser" 0 "runAsGroup" 0 "runAsNonRoot" false) | toYaml | nindent 4 }}
    {{- else }}
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
    {{- end }}
  containers:
    - name: inferometer
      image: {{ include "inferometer.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - run
        - --config.file=/etc/inferometer/inferometer.yaml
        {{- with .Values.webConfig.existingSecret }}
        - --web.config.file=/etc/inferometer-web/{{ $.Values.webConfig.key }}
        {{- end }}
        {{- range .Values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      env:
        {{- if eq .Values.mode "daemonset" }}
        - name: NODE_NAME
          valueFrom:
            fieldRef:
              fieldPath: spec.nodeName
        {{- end }}
        - name: NODE_IP
          valueFrom:
            fieldRef:
              fieldPath: status.hostIP
        {{- if eq .Values.gpus.source "nvml" }}
        - name: NVIDIA_VISIBLE_DEVICES
          value: all
        - name: NVIDIA_DRIVER_CAPABILITIES
          value: utility
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: 10110
          protocol: TCP
      startupProbe:
        {{- include "inferometer.probe" (dict "probe" .Values.startupProbe "web" .Values.webConfig) | nindent 8 }}
      livenessProbe:
        {{- include "inferometer.probe" (dict "probe" .Values.livenessProbe "web" .Values.webConfig) | nindent 8 }}
      readinessProbe:
        {{- include "inferometer.probe" (dict "probe" .Values.readinessProbe "web" .Values.webConfig) | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/inferometer
          readOnly: true
        {{- if .Values.webConfig.existingSecret }}
        - name: web-config
          mountPath: /etc/inferometer-web
          readOnly: true
        {{- end }}
        {{- if ne .Values.ledger.type "none" }}
        - name: ledger
          mountPath: /var/lib/inferometer
        {{- end }}
        {{- if .Values.gpus.podResources }}
        - name: pod-resources
          mountPath: /var/lib/kubelet/pod-resources
          readOnly: true
        {{- end }}
        {{- range .Values.existingSecrets }}
        - name: secret-{{ .name }}
          mountPath: {{ .mountPath }}
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ default (include "inferometer.fullname" .) .Values.existingConfigMap }}
    {{- with .Values.webConfig.existingSecret }}
    - name: web-config
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- if eq .Values.ledger.type "emptyDir" }}
    - name: ledger
      emptyDir:
        sizeLimit: {{ .Values.ledger.size }}
    {{- else if eq .Values.ledger.type "hostPath" }}
    - name: ledger
      hostPath:
        path: {{ .Values.ledger.hostPath }}
        type: DirectoryOrCreate
    {{- else if eq .Values.ledger.type "claim" }}
    - name: ledger
      persistentVolumeClaim:
        claimName: {{ default (include "inferometer.fullname" .) .Values.ledger.existingClaim }}
    {{- end }}
    {{- if .Values.gpus.podResources }}
    - name: pod-resources
      hostPath:
        path: /var/lib/kubelet/pod-resources
        type: Directory
    {{- end }}
    {{- range .Values.existingSecrets }}
    - name: secret-{{ .name }}
      secret:
        secretName: {{ .name }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if eq .Values.mode "daemonset" }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- else }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
