"""New videos through all streams of a trained split: labels, attention over time, windows of untrimmed videos.

`items` computes frames and flow as the shards of training hold them, `predictor` scores them, `drawn` draws.
"""

from atw.extras.predict.prediction import Prediction, StreamPrediction, WindowPrediction
from atw.extras.predict.predictor import Predictor, load

__all__ = ["Prediction", "Predictor", "StreamPrediction", "WindowPrediction", "load"]
