"""Any torch module as a model of the protocol, by watching the calls that its forward makes."""

from indexscope.analysis.capture.watching.module import WatchedModule, takes_input_ids

__all__ = ["WatchedModule", "takes_input_ids"]
