"""MLServer with a runtime of its own: the columns of a V2 request as one data frame."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse
from model import PIPELINE


class Late(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        said = PIPELINE.predict_proba(PandasCodec.decode_request(payload))[:, 1]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probability", said)])
