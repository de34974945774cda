"""The features by family: one file a concern, with its declarations, its texts and its torch code.

The registry of metrics reads the declarations without torch, so that each function imports it for itself.
"""

from indexscope.analysis.features.feature import FeatureFamily
from indexscope.analysis.questions import found

#: In the order of the documentation.
FAMILIES = tuple(sorted(found(__name__, FeatureFamily), key=lambda family: family.order))
