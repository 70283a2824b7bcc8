"""GET /metrics: what the engines and the server do, in Prometheus's words and under vLLM's names.

engine ─ StepNews ─► EngineMeter ─┐
service ─ begun, over ─► "        ├─► Exposition ─► text, when somebody scrapes
HTTP ─► HttpMeter ────────────────┘
"""
