{{/*
What a pod needs. A chart that depends on this one includes them; they are empty where the
value mount needs none:

  spec:
    containers:
      - name: app
        resources:
          limits: {{- include "cima.limits" . | nindent 12 }}
        env: {{- include "cima.env" . | nindent 10 }}
        volumeMounts: {{- include "cima.volumeMounts" . | nindent 10 }}
    volumes: {{- include "cima.volumes" . | nindent 6 }}
*/}}
{{- define "cima.limits" -}}
{{- if ne .Values.mount "hostPath" -}}
cima-project.github.io/agent: 1
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{- define "cima.env" -}}
{{- if eq .Values.mount "hostPath" -}}
- name: CIMA_SOCKET
  value: /run/cima/cima.sock
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{- define "cima.volumeMounts" -}}
{{- if eq .Values.mount "hostPath" -}}
- name: cima
  mountPath: /run/cima
  readOnly: true
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{- define "cima.volumes" -}}
{{- if eq .Values.mount "hostPath" -}}
- name: cima
  hostPath:
    path: {{ .Values.sockets }}
    type: Directory
{{- else -}}
[]
{{- end -}}
{{- end -}}
