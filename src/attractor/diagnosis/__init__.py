"""Why a training run behaves as it does: findings with their numbers, from a state, a run, or its log."""

from attractor.diagnosis.findings import Diagnosis, Finding, Trial
from attractor.diagnosis.logs import diagnose_log, read_log
from attractor.diagnosis.monitor import Monitor
from attractor.diagnosis.recorder import Recorder
from attractor.diagnosis.rules import RULES, THRESHOLDS, judge
from attractor.diagnosis.seeds import diagnose_run
from attractor.diagnosis.signs import Layer, Signs
from attractor.diagnosis.state import diagnose
