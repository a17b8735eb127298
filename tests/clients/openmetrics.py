"""Reads OpenMetrics text from standard input with Prometheus' own parser; prints {family: type} as JSON."""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

print(json.dumps({family.name: family.type for family in text_string_to_metric_families(sys.stdin.read())}))
