"""The schema: every key of the configuration once, with its type, bounds, default and meaning.

The decoder, the documentation and the JSON schema all read these types. Durations are seconds, ratios are 0 to 1,
money is in ``Config.currency``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Struct

from inferometer.config.kinds import Choice, Duration, Number, Zone
from inferometer.config.places import CURRENCY, DIRECTORY, FILE, NAME, NAMESPACE, Address, ApiUrl, Clock, GpuId, Url
from inferometer.config.presets import PRESETS
from inferometer.model import SLOS

ENGINES = (
    "auto", "aibrix", "dynamo_frontend", "dynamo_worker", "envoy", "epp", "kserve", "litellm", "llamacpp",
    "lmdeploy", "mlc", "nim", "otel_genai", "ray", "sglang", "tgi", "triton", "triton_vllm", "trtllm", "vllm",
)  # fmt: skip
"""As there are adapters; a test compares."""

Seconds = Annotated[float, Duration()]
Amount = Annotated[float, Number(low=0)]
Count = Annotated[int, Number(low=1, whole=True)]
TimeZone = Annotated[str, Zone()]
FilePath = Annotated[str, FILE]


class Tls(Struct, frozen=True):
    """How to speak https with an engine."""

    ca_file: Annotated[FilePath | None, "Certificate authorities to trust instead of the system's"] = None
    insecure_skip_verify: Annotated[bool, "Do not verify the server's certificate"] = False
    cert_file: Annotated[FilePath | None, "Client certificate; needs `key_file`"] = None
    key_file: Annotated[FilePath | None, "Key of the client certificate"] = None
    server_name: Annotated[str | None, "Name to expect in the server's certificate"] = None


class Tenant(Struct, frozen=True):
    """Who asked: one label of a gateway's token counters becomes the label `tenant`."""

    label: Annotated[str, "The gateway's label, e.g. team"]
    allow: Annotated[tuple[str, ...], "Values to show; the rest is `other`. Left out, all up to the limit"] = ()
    limit: Annotated[Count, "Most values to show; later ones are `other`"] = 50


class Engine(Struct, frozen=True):
    """One inference server process with its metrics page."""

    url: Annotated[
        str, Url(recordings=True), "Its metrics page (`/metrics` is added to a bare server), or a recording's"
    ]
    name: Annotated[str | None, NAME, "Value of the label `engine`; left out, host and port of the URL"] = None
    engine: Annotated[str, Choice(ENGINES), "What serves; `auto` recognises it by its page"] = "auto"
    adapter: Annotated[
        FilePath | None, "Your own adapter for a server that is not among these; relative to this file's folder"
    ] = None
    role: Annotated[
        Literal["both", "prefill", "decode", "frontend"],
        "Its part in disaggregated serving: only the right pages count tokens",
    ] = "both"
    bearer_token_file: Annotated[FilePath | None, "File with a bearer token, read again when it changes"] = None
    tls: Annotated[Tls, "How to speak https with it"] = Tls()
    gpus: Annotated[Count | None, "GPUs of this engine; exact busy time and the pool split need it"] = None
    tenant: Annotated[Tenant | None, "Count tokens by who asked for them; off if left out"] = None
    pod: Annotated[
        str | None, "Its pod as `namespace/name`: GPUs that labels or the kubelet give to that pod are the workload's"
    ] = None
    spans: Annotated[dict[str, str], "Attributes of the OTLP resources that belong to this engine"] = {}


class Limits(Struct, frozen=True):
    """Limits of one model that has its own."""

    ttft: Annotated[Seconds | None, "Limit of the time to first token"] = None
    tpot: Annotated[Seconds | None, "Limit of the time per output token after the first"] = None
    e2e: Annotated[Seconds | None, "Limit of the whole request"] = None
    preset: Annotated[str | None, Choice(tuple(PRESETS)), "Limits by name instead of those of all models"] = None


class Slo(Struct, frozen=True):
    """When a request is good: it finished without error and no latency is over its limit (a limit itself is met)."""

    ttft: Annotated[Seconds | None, "Limit of the time to first token from arrival, queue included"] = None
    tpot: Annotated[Seconds | None, "Limit of the time per output token after the first"] = None
    e2e: Annotated[Seconds | None, "Limit of the whole request"] = None
    objective: Annotated[
        float, Number(above=0, below=1), "Share of requests that shall be good; with a preset its own (MLPerf: 0.99)"
    ] = 0.95
    preset: Annotated[str | None, Choice(tuple(PRESETS)), "Limits by name; limits written beside it win"] = None
    models: Annotated[
        dict[str, Limits], "Models with limits of their own, by served name; what they leave out holds"
    ] = {}

    @property
    def thresholds(self) -> dict[str, float]:
        """The limits that are set, in seconds."""
        limits = {name: getattr(self, name) for name in SLOS}
        return {name: limit for name, limit in limits.items() if limit is not None}


class Budget(Struct, frozen=True):
    """Money that may be spent per period."""

    amount: Annotated[float, Number(above=0), "Money per period"]
    period: Annotated[Literal["month", "week", "day"] | Seconds, "Calendar period, or a rolling one such as 30d"] = (
        "month"
    )
    timezone: Annotated[TimeZone, "Where calendar periods begin"] = "UTC"


class Training(Struct, frozen=True):
    """Money once spent on fine-tuning, spread over use."""

    exactly_one: ClassVar[tuple[str, ...]] = ("over", "over_tokens")

    amount: Annotated[Amount, "Money spent on fine-tuning"]
    over: Annotated[Seconds | None, "Spread evenly over this time"] = None
    over_tokens: Annotated[Annotated[float, Number(above=0)] | None, "Spread over this many tokens"] = None


class Rates(Struct, frozen=True):
    """How fast this model runs on these GPUs, as `inferometer calibrate` measures it; splits the bill by GPU time."""

    prefill: Annotated[Annotated[float, Number(above=0)], "Uncached prompt tokens per second"]
    decode: Annotated[Annotated[float, Number(above=0)], "Output tokens per second at a working batch size"]


class Workload(Struct, frozen=True):
    """A deployment whose economics are counted as one."""

    name: Annotated[str, NAME, "Value of the label `workload`"]
    engines: Annotated[tuple[Engine, ...], "Its servers; without any, money and energy are counted alone"] = ()
    gpus: Annotated[
        Literal["auto", "all", "none"] | Count | tuple[Annotated[str | int, GpuId()], ...],
        "Its GPUs: found by itself, every visible one, none, an assumed number without telemetry, or listed",
    ] = "auto"
    share: Annotated[float, Number(above=0, high=1), "Part of each GPU, where workloads share them"] = 1.0
    price: Annotated[str | None, "A name under `prices`; left out, `default` if there is one"] = None
    slo: Annotated[Slo, "When a request is good"] = Slo()
    budget: Annotated[Budget | None, "Money that may be spent per period"] = None
    rates: Annotated[Rates | None, "Measured token rates; left out, weights split the bill"] = None
    training: Annotated[Training | None, "Fine-tuning, amortised"] = None


class Step(Struct, frozen=True, rename={"start": "from"}):
    """A price from a time of day on."""

    # in minutes since midnight; `from` is a word of Python's
    start: Annotated[int, Clock(), "Time of day from which on the rate holds"]
    rate: Annotated[Amount, "Money per GPU-hour"]


class Software(Struct, frozen=True):
    """Yearly licences."""

    amount: Annotated[Amount, "Money per year"]
    per: Annotated[Literal["gpu", "server"], "What one licence covers"] = "server"


class Owned(Struct, frozen=True):
    """A server that was bought; all amounts are per server."""

    server: Annotated[Amount, "What the server cost"]
    gpus: Annotated[Count, "GPUs in it"]
    years: Annotated[float, Number(above=0), "Years of use"]
    residual: Annotated[Amount, "What it is worth after those years"] = 0.0
    cost_of_capital: Annotated[float, Number(low=0, high=1), "Yearly interest as a ratio, e.g. 0.08"] = 0.0
    availability: Annotated[float, Number(above=0, high=1), "Part of the year in which it can serve"] = 1.0
    metered: Annotated[bool, "Charge measured electricity on top; needs `electricity.price_per_kwh`"] = False
    software_per_year: Annotated[Amount | Software, "Licences: a number is per server"] = 0.0
    hosting_per_year: Annotated[Amount, "Space, cooling, network, hands"] = 0.0
    other_per_year: Annotated[Amount, "Anything else"] = 0.0


class Feed(Struct, frozen=True):
    """Where a price is kept. It is read at the start and every `refresh`; the last one is charged while it cannot be.

    What is chosen must lead to one price: several are an error that names them.
    """

    exactly_one: ClassVar[tuple[str, ...]] = ("csv", "opencost")

    csv: Annotated[FilePath | None, "A SkyPilot catalog: an instance's price over its GPUs, in USD"] = None
    opencost: Annotated[
        Annotated[str, Url()] | None, "OpenCost's page with `node_gpu_hourly_cost`, which is per GPU; in its currency"
    ] = None
    accelerator: Annotated[str | None, "In a catalog: the AcceleratorName, e.g. H100"] = None
    instance: Annotated[str | None, "The InstanceType of a catalog, the label `instance_type` of OpenCost"] = None
    region: Annotated[str | None, "The Region of a catalog, the label `region` of OpenCost"] = None
    node: Annotated[str | None, "In OpenCost: the label `node`"] = None
    spot: Annotated[bool, "In a catalog: SpotPrice in place of Price"] = False
    refresh: Annotated[Seconds, "How often it is read again"] = 3600.0


class Price(Struct, frozen=True, rename={"feed": "from"}):
    """What a GPU costs."""

    exactly_one: ClassVar[tuple[str, ...]] = ("gpu_hour", "owned", "from")

    gpu_hour: Annotated[
        Amount | tuple[Step, ...] | None, "Rented: money per GPU-hour with power inside, or steps over the day"
    ] = None
    timezone: Annotated[TimeZone, "Where the steps' times of day are meant"] = "UTC"
    owned: Annotated[Owned | None, "Bought: from the server's price and its running costs"] = None
    feed: Annotated[Feed | None, "Read from where it is kept"] = None


class Electricity(Struct, frozen=True):
    """The power bill; charged only where an owned price says `metered: true`."""

    price_per_kwh: Annotated[Amount | None, "Money per kWh at the facility's meter"] = None
    pue: Annotated[float, Number(low=1), "Facility energy per IT energy"] = 1.0


class Carbon(Struct, frozen=True):
    """Emissions of the grid."""

    grams_per_kwh: Annotated[Amount, "Grams of CO2 equivalent per facility kWh"]
    source: Annotated[str, "Where the figure is from, for readers"] = ""


class Weights(Struct, frozen=True):
    """What one token of each type weighs where nothing better splits the bill."""

    input_uncached: Annotated[Amount, "Weight of a prompt token that was computed"] = 1.0
    input_cached: Annotated[Amount, "Weight of a prompt token from the prefix cache"] = 0.1
    output: Annotated[Amount, "Weight of a generated token"] = 4.0


class Tokens(Struct, frozen=True):
    """How money is split over token types."""

    weights: Annotated[Weights, "Relative weights of the token types"] = Weights()


class Gpu(Struct, frozen=True):
    """Where GPU telemetry comes from."""

    sources: Annotated[tuple[Literal["nvml", "dcgm"], ...], "In order of trust"] = ("nvml",)
    dcgm_url: Annotated[
        Annotated[str, Url(recordings=True)] | None, "The page of dcgm-exporter; the source `dcgm` needs it"
    ] = None
    pod_resources: Annotated[
        FilePath | None, "The kubelet's socket that tells which pod holds which GPU; needs the extra `[grpc]`"
    ] = None
    idle_watts: Annotated[Amount | None, "What a GPU draws with nothing to do; left out, the least that was seen"] = (
        None
    )


class Host(Struct, frozen=True):
    """Energy of the machine beside its GPUs; without this section nothing is assumed of it."""

    exactly_one: ClassVar[tuple[str, ...]] = ("watts", "rapl")

    watts: Annotated[Amount | None, "A figure of your own; counted as estimated, never charged"] = None
    rapl: Annotated[FilePath | None, "Where the CPU's energy counters are, e.g. /sys/class/powercap"] = None


class Water(Struct, frozen=True):
    """Water for cooling on site."""

    liters_per_kwh: Annotated[Amount, "Liters per kWh of IT equipment (WUE)"]


class Kubernetes(Struct, frozen=True):
    """Finds engines by their pods, as their annotations say. The key's presence turns it on.

    A workload that is called as the pods' is (`namespace/name`) gets them, and its own price, SLOs and budget hold.
    """

    namespaces: Annotated[tuple[Annotated[str, NAMESPACE], ...], "Where to look; left out, in all namespaces"] = ()
    node: Annotated[
        str,
        "The node whose pods are read, e.g. `$(NODE_NAME)`; left out, every node's, with as many GPUs as they ask for",
    ] = ""
    api_url: Annotated[
        Annotated[str, ApiUrl()] | None, "The API server; left out, that of the cluster that the agent runs in"
    ] = None
    token_file: Annotated[FilePath | None, "Its bearer token; left out, the service account's"] = None
    ca_file: Annotated[FilePath | None, "Its certificate authority; left out, the cluster's"] = None


class Otlp(Struct, frozen=True):
    """Receives request traces. The key's presence turns it on."""

    http: Annotated[str, Address(), "Address of OTLP over HTTP"] = "127.0.0.1:4318"
    grpc: Annotated[Annotated[str, Address()] | None, "Address of OTLP over gRPC; off if left out"] = None


class Scrape(Struct, frozen=True):
    """How pages are read."""

    timeout: Annotated[Seconds, "Longest wait for a page; left out, the interval where that is shorter"] = 10.0
    max_page_bytes: Annotated[int, Number(low=1024, whole=True), "Pages over this size are refused"] = 33_554_432
    max_page_series: Annotated[Count, "Pages with more series that count are refused"] = 50_000


class Caps(Struct, frozen=True):
    """How much is taken in. What is over a limit is left out and counted in `inferometer_series_dropped_total`."""

    series: Annotated[Count, "Counters and histograms followed of one engine"] = 5_000
    all_series: Annotated[Count, "Counters and histograms followed of all engines together"] = 200_000
    models: Annotated[Count, "Models of one workload with a name of their own; later ones are `other`"] = 100
    engines: Annotated[Count, "Pods that are followed at one time, where they are found"] = 2_000
    gpus: Annotated[Count, "GPUs that one agent knows"] = 1_024
    spans_per_second: Annotated[Count, "Trace spans taken; exporters are asked to send the rest later"] = 20_000


class Web(Struct, frozen=True):
    """The agent's own pages."""

    listen_address: Annotated[str, Address(), "Address of the live page, the metrics and the API"] = ":10110"
    config_file: Annotated[
        FilePath | None, "TLS, client certificates and passwords, in the format of Prometheus's exporters"
    ] = None
    enable_lifecycle: Annotated[bool, "Take `POST /-/reload` and `POST /-/release`; SIGHUP reloads always"] = False


class Storage(Struct, frozen=True):
    """The ledger."""

    path: Annotated[str | None, DIRECTORY, "Its directory; without one, totals live as long as the process"] = None


class Log(Struct, frozen=True):
    """The agent's log, on stderr."""

    level: Annotated[Literal["debug", "info", "warning", "error"], "Least severity that is written"] = "info"
    format: Annotated[Literal["logfmt", "json"], "How a line is written"] = "logfmt"


class Config(Struct, frozen=True):
    """The whole configuration."""

    currency: Annotated[str, CURRENCY, "Of every amount; one per ledger, a reload cannot change it"] = "USD"
    interval: Annotated[float, Duration(low=0.1), "How often sources are read and money is settled"] = 5.0
    windows: Annotated[tuple[Seconds, ...], "Windows of the ratios; values of the label `window`"] = (
        60.0,
        300.0,
        3600.0,
    )
    workloads: Annotated[tuple[Workload, ...], "What is counted"] = ()
    prices: Annotated[dict[str, Price], "What a GPU costs, by name"] = {}
    electricity: Annotated[Electricity | None, "The power bill"] = None
    carbon: Annotated[Carbon | None, "Emissions of the grid"] = None
    water: Annotated[Water | None, "Water for cooling"] = None
    host: Annotated[Host | None, "Energy of the machine beside its GPUs"] = None
    tokens: Annotated[Tokens, "How money is split over token types"] = Tokens()
    gpu: Annotated[Gpu, "Where GPU telemetry comes from"] = Gpu()
    kubernetes: Annotated[Kubernetes | None, "Finds engines by their pods; the key's presence turns it on"] = None
    otlp: Annotated[Otlp | None, "Receives request traces; the key's presence turns it on"] = None
    scrape: Annotated[Scrape, "How pages are read"] = Scrape()
    limits: Annotated[Caps, "How much is taken in"] = Caps()
    web: Annotated[Web, "The agent's own pages"] = Web()
    storage: Annotated[Storage, "The ledger"] = Storage()
    log: Annotated[Log, "The agent's log"] = Log()
