"""The economics, pure: an interval and a policy in, money, tokens, requests and joules out."""

from inferometer.economics.hours import Hours
from inferometer.economics.policy import Policy, Slo
from inferometer.economics.ratios import ratios, window_label
from inferometer.economics.settle import settle
from inferometer.economics.windows import Windows

__all__ = ["Hours", "Policy", "Slo", "Windows", "ratios", "settle", "window_label"]
