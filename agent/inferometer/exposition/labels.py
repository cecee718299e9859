"""The labels that metrics share, each declared once, with its values where the set is closed."""

from __future__ import annotations

from inferometer.exposition.metric import Label
from inferometer.model import OUTCOMES, REFUSALS, SLOS, SPAN_OUTCOMES, STATES, TOKEN_TYPES

WORKLOAD = Label("workload")
ENGINE = Label("engine")
MODEL = Label("model")
TENANT = Label("tenant")
WINDOW = Label("window")
GPU = Label("gpu")
MIG = Label("mig")
SOURCE = Label("source")

TOKEN_TYPE = Label("type", TOKEN_TYPES)
COST_TYPE = Label("type", (*TOKEN_TYPES, "idle", "unassigned"))
REQUEST_TOKENS = Label("type", ("input", "output"))
OUTCOME = Label("outcome", OUTCOMES)
STATE = Label("state", STATES)
COMPONENT = Label("component", ("gpu", "electricity", "software", "hosting", "training", "other"))
SPLIT_METHOD = Label("method", ("pool", "gpu_time", "calibrated", "weights", "none"))
TOKENS = Label("tokens", ("all", "output"))
BASIS = Label("basis", ("allocation", "usage"))

ENERGY_COMPONENT = Label("component", ("gpu", "host", "overhead"))
ENERGY_STATE = Label("state", ("active", "idle", "unknown"))
ENERGY_METHOD = Label("method", ("counter", "samples", "estimated"))
BOUNDARY = Label("boundary", ("gpu", "it", "facility"))

SLO = Label("slo", SLOS, overlapping=True)
SLO_METHOD = Label("method", ("trace", "histogram"))

QUEUE_STATE = Label("state", ("running", "waiting"))
KIND = Label("kind")
VERSION = Label("version")
SIGNAL = Label("signal")

SHARE_METHOD = Label("method", ("exclusive", "share", "mig", "replica", "none"))
METER_SCOPE = Label("scope", ("gpu", "module"))
NAME = Label("name")
DRIVER = Label("driver")
CLOCK = Label("clock", ("sm", "memory"))
XID = Label("xid")
DIRECTION = Label("direction", ("rx", "tx"))

LIMIT = Label("limit", ("series", "all_series", "gpus", "engines"))
SERVER = Label("server", ("web", "otlp"))
REFUSAL = Label("reason", REFUSALS)
REASON = Label("reason", overlapping=True)
SPAN_OUTCOME = Label("outcome", SPAN_OUTCOMES)
