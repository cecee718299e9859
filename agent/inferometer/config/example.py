"""The example that opens docs/configuration.md; a test loads it."""

EXAMPLE = """\
currency: USD                     # of every amount in this file
interval: 5s                      # how often sources are read; at least 100ms
windows: [1m, 5m, 1h]             # windows of the ratios

workloads:
  - name: chat                    # the label `workload`
    engines:                      # may be left out: then money and energy are counted alone
      - url: http://127.0.0.1:8000/metrics
        engine: auto              # recognised by its page
        role: both                # prefill, decode or frontend in disaggregated serving
        bearer_token_file: /run/secrets/token
        gpus: 4
        spans: {service.name: vllm-chat}
    gpus: auto                    # all, none, an assumed number such as 8, or [GPU-…, MIG-…, 0]
    price: h100                   # a name under prices
    slo: {ttft: 500ms, tpot: 50ms, e2e: 10s, objective: 0.95}
    budget: {amount: 20000, period: month, timezone: Europe/Berlin}
    training: {amount: 12000, over: 180d}
  - name: batch
    engines:
      - url: https://batch.internal:8443/metrics
        tls: {ca_file: /etc/ssl/internal.pem}
    gpus: [GPU-6d2f8a6c-0b0e-4c4e-9d55-3c1f3b0a7a11]
    share: 0.5                    # of each GPU listed, when workloads share them
    price: spot
    slo: {preset: mlperf-llama2-70b-interactive, e2e: 20s}     # what is written beside a preset wins

prices:
  default: {gpu_hour: 2.50}       # rented: money per GPU-hour, power inside
  spot:
    timezone: Europe/Berlin
    gpu_hour:
      - {from: "00:00", rate: 1.10}
      - {from: "08:00", rate: 2.50}
  h100:
    owned:                        # bought: amounts per server
      server: 320000
      gpus: 8
      years: 4
      metered: true               # measured electricity comes on top
      software_per_year: {amount: 4500, per: gpu}
      hosting_per_year: 3000
  listed:
    from: {csv: vms.csv, accelerator: H100, region: us-east-1}     # a SkyPilot catalog, read again every hour

electricity: {price_per_kwh: 0.12, pue: 1.3}
carbon: {grams_per_kwh: 400, source: "grid 2023, location based"}
tokens: {weights: {input_uncached: 1, input_cached: 0.1, output: 4}}
gpu: {sources: [nvml, dcgm], dcgm_url: "http://$(NODE_IP):9400/metrics"}     # $(NAME) is an environment variable
otlp: {http: "127.0.0.1:4318"}
scrape: {timeout: 4s}
web: {listen_address: ":10110"}
storage: {path: /var/lib/inferometer}
log: {level: info, format: logfmt}
"""
