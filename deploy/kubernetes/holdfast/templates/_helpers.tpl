{{- define "holdfast.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "holdfast.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "holdfast.labels" -}}
{{ include "holdfast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "holdfast.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "holdfast.fullname" .) }}
{{- end }}

{{- define "holdfast.claim" -}}
{{ .Values.persistence.existingClaim | default (include "holdfast.fullname" .) }}
{{- end }}

{{- define "holdfast.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* "true" if only the pods of one machine can have the volume. */ -}}
{{- define "holdfast.oneMachine" -}}
{{- if and .Values.persistence.enabled (ne .Values.persistence.accessMode "ReadWriteMany") }}true{{ end -}}
{{- end }}

{{- define "holdfast.scheme" -}}
{{ if dig "http" "tls" "certificate" "" .Values.config }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{- /* What cannot work is refused here, with what to do, and not by pods that do not start. */ -}}
{{- define "holdfast.check" -}}
{{- $config := .Values.config -}}
{{- $storage := $config.storage | default dict -}}
{{- if not $storage -}}
{{- fail "Say where images go: config.storage.s3 with bucket and region, or config.storage.filesystem with persistence.enabled=true." -}}
{{- end -}}
{{- if and (hasKey $storage "filesystem") (not .Values.persistence.enabled) -}}
{{- fail "config.storage.filesystem needs a volume, or every image ends with its pod: set persistence.enabled=true." -}}
{{- end -}}
{{- if and .Values.persistence.enabled (not (hasKey $storage "filesystem")) -}}
{{- fail "persistence.enabled makes a volume that nothing uses: set config.storage.filesystem, or take persistence.enabled away." -}}
{{- end -}}
{{- if and (hasKey $storage "inmemory") (gt (int .Values.replicas) 1) -}}
{{- fail "Pods do not share config.storage.inmemory: set replicas=1." -}}
{{- end -}}
{{- if and (include "holdfast.oneMachine" .) (gt (int .Values.replicas) 1) -}}
{{- fail "Only one machine can have a volume that is ReadWriteOnce: set replicas=1, or persistence.accessMode=ReadWriteMany." -}}
{{- end -}}
{{- if not (or $config.auth .Values.anonymous) -}}
{{- fail "Nobody would be asked who they are: set config.auth, or anonymous=true if everybody may pull, push and delete." -}}
{{- end -}}
{{- if and (dig "auth" "builtin" "" $config) (not .Values.secrets.keys) (not (dig "auth" "builtin" "keys" "" $config)) -}}
{{- fail "config.auth.builtin needs keys that all pods share: name a Secret in secrets.keys, or a directory of the volume in config.auth.builtin.keys." -}}
{{- end -}}
{{- range $key := list "addr" "draindelay" "draintimeout" "workers" -}}
{{- if hasKey ($config.http | default dict) $key -}}
{{- fail (printf "config.http.%s is the chart's to set; it follows from workers, drain.delaySeconds and drain.timeoutSeconds." $key) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "holdfast.config" -}}
{{- include "holdfast.check" . -}}
{{- $http := dict
    "addr" ":5000"
    "workers" (int .Values.workers)
    "draindelay" (printf "%ds" (int .Values.drain.delaySeconds))
    "draintimeout" (printf "%ds" (int .Values.drain.timeoutSeconds)) -}}
{{- if .Values.ingress.enabled -}}
{{- $_ := set $http "host" (printf "%s://%s" (ternary "https" "http" (ne .Values.ingress.tlsSecret "")) .Values.ingress.host) -}}
{{- end -}}
{{- $ours := dict "version" "0.1" "log" (dict "formatter" "json") "http" $http -}}
{{- if .Values.persistence.enabled -}}
{{- $_ := set $ours "storage" (dict "filesystem" (dict "rootdirectory" "/var/lib/registry")) -}}
{{- end -}}
{{- if and .Values.secrets.keys (hasKey (.Values.config.auth | default dict) "builtin") -}}
{{- $_ := set $ours "auth" (dict "builtin" (dict "keys" "/run/holdfast/keys")) -}}
{{- end -}}
{{- mustMergeOverwrite $ours (deepCopy .Values.config) | toYaml -}}
{{- end }}

{{- /* Of every pod, the collector's too. */ -}}
{{- define "holdfast.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
# A tree of millions of files is not walked at every start.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "holdfast.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "holdfast.environment" -}}
- name: HOLDFAST_INSECURE_ANONYMOUS
  value: {{ .Values.anonymous | quote }}
{{- end }}

{{- define "holdfast.mounts" -}}
- name: config
  mountPath: /etc/holdfast/config.yml
  subPath: config.yml
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if .Values.secrets.files }}
- name: files
  mountPath: /etc/holdfast/files
  readOnly: true
{{- end }}
{{- if .Values.persistence.enabled }}
- name: tree
  mountPath: /var/lib/registry
{{- end }}
{{- end }}

{{- define "holdfast.volumes" -}}
- name: config
  configMap:
    name: {{ include "holdfast.fullname" . }}
- name: tmp
  emptyDir: {}
{{- if .Values.secrets.files }}
- name: files
  secret:
    secretName: {{ .Values.secrets.files }}
    defaultMode: 0440
{{- end }}
{{- if .Values.persistence.enabled }}
- name: tree
  persistentVolumeClaim:
    claimName: {{ include "holdfast.claim" . }}
{{- end }}
{{- end }}
