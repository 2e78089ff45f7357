"""Logs, metrics and traces: how the road speaks while it runs.

One catalogue of metrics (`catalogue`), its instruments in one registry (`instruments`), served by
`server`. Log lines are `logs`. Not here: what is measured when (`observe`), alerts and dashboards.
"""

from __future__ import annotations

from stream.telemetry.catalogue import CATALOGUE as CATALOGUE
from stream.telemetry.catalogue import METRICS as METRICS
from stream.telemetry.catalogue import Metric as Metric
from stream.telemetry.catalogue import find_metric as find_metric
from stream.telemetry.instruments import Instrument as Instrument
from stream.telemetry.instruments import Instruments as Instruments
from stream.telemetry.logs import PLAIN as PLAIN
from stream.telemetry.logs import QUIET_LOGGERS as QUIET_LOGGERS
from stream.telemetry.logs import JsonFormatter as JsonFormatter
from stream.telemetry.logs import set_up_logging as set_up_logging
from stream.telemetry.server import MetricsServer as MetricsServer
from stream.telemetry.server import serve_metrics as serve_metrics
