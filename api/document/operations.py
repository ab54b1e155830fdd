"""The table of everything that the token path answers, by method and path.

An address that is routed and not here is in the document all the same, with what its route
says; a test names it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api.batches.wire import CreateBatch, ListBatches
from api.chat_completions.resources import ListCompletions, ListMessages, UpdateCompletion
from api.chat_completions.wire import ChatRequest
from api.completions.wire import CompletionRequest
from api.document.operation import OF_BODIES, OF_FILES, OF_LIMITS, OF_RUNS, OF_VALUES, Described
from api.document.shapes import messages, resources, responses, texts
from api.document.shapes.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    CompletionChunk,
    DeletedCompletion,
    KeptMessage,
)
from api.embeddings.handler import EmbeddingRequest
from api.files.wire import DeletedFile, FileObject, ListFiles, UploadFields
from api.management.wire import Error
from api.messages.wire import CountRequest, MessagesRequest
from api.models.anthropic import Query as ModelQuery
from api.resources import Page
from api.responses.resources import ListItems, Retrieve
from api.responses.wire import ResponseRequest, TokenCountRequest
from api.scoring.wire import RerankRequest, ScoreRequest
from api.stream.tickets import TicketRequest
from api.streams.handler import ResumeQuery
from api.tokenize.handler import DetokenizeRequest, TokenizeRequest
from api.uploads.wire import (
    CompleteUpload,
    CreateUpload,
    PartFields,
    PartObject,
    UploadObject,
)

CHAT, EMBEDDING = "smollm2-135m-instruct", "all-minilm-l6-v2"  # of the demo
_ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
_TEXTS = ["The cat sat on the mat.", "Prices rose by two percent."]
_OF_TURNS = ("previous_response_not_found", "previous_response_not_completed")
_OF_FILES = (*OF_FILES, "not_found")

_CHAT = Described(
    "Chat completions",
    "Answer a conversation, whole or as a stream of chunks",
    ChatCompletion,
    ChatRequest,
    events=(ChatCompletionChunk, Error),
    example={"model": CHAT, "messages": _ASK, "max_tokens": 16},
    errors=(*OF_BODIES, *OF_RUNS),
    is_kept=True,
    is_run=True,
)
_RERANK = Described(
    "Rerank and score",
    "Order documents by how alike they are to a query",
    texts.Reranking,
    RerankRequest,
    example={"model": EMBEDDING, "query": "Where did the cat sit?", "documents": _TEXTS},
    errors=(*OF_BODIES, *OF_RUNS),
    is_kept=True,
    is_run=True,
)
_SCORE = replace(
    _RERANK,
    summary="Tell how alike pairs of texts are",
    answer=texts.ScoreList,
    body=ScoreRequest,
    example={"model": EMBEDDING, "text_1": "Where did the cat sit?", "text_2": _TEXTS},
    note="Send `text_1` and `text_2`, or `queries` and `documents` or `items`.",
)
_TOKENIZE = Described(
    "Tokens",
    "Tell the tokens of a text or a chat",
    texts.TokenList,
    TokenizeRequest,
    example={"model": CHAT, "prompt": "The capital of France is"},
    errors=(*OF_BODIES, *OF_LIMITS, "model_not_found", "context_length_exceeded"),
    note="Send either `prompt` or `messages`. Free.",
)
_DETOKENIZE = replace(
    _TOKENIZE,
    summary="Tell the text of tokens",
    answer=texts.Detokenized,
    body=DetokenizeRequest,
    example={"model": CHAT, "tokens": [504, 3575, 282]},
    note="Free.",
)
_MESSAGE = Described(
    "Messages",
    "Answer a conversation in Anthropic's words",
    messages.MessageAnswer,
    MessagesRequest,
    events=messages.EVENTS,
    example={"model": CHAT, "messages": _ASK, "max_tokens": 16},
    errors=(*OF_BODIES, *OF_RUNS),
    is_anthropic=True,
    is_kept=True,
    is_run=True,
)
_RESPONSE = Described(
    "Responses",
    "Answer items, after those of an earlier response if one is named",
    responses.ResponseObject,
    ResponseRequest,
    events=(*responses.EVENTS, Error),
    example={"model": CHAT, "input": "What is the capital of France?", "max_output_tokens": 16},
    errors=(
        *OF_BODIES,
        *OF_RUNS,
        *_OF_TURNS,
        "too_many_background_responses",
        "stream_storage_full",
    ),
    is_kept=True,
    is_run=True,
)
INFERENCE: dict[tuple[str, str], Described] = {
    ("POST", "/v1/chat/completions"): _CHAT,
    ("POST", "/v1/completions"): Described(
        "Completions",
        "Go on with a text, or with several at once",
        Completion,
        CompletionRequest,
        events=(CompletionChunk, Error),
        example={"model": CHAT, "prompt": "The capital of France is", "max_tokens": 8},
        errors=(*OF_BODIES, *OF_RUNS),
        is_kept=True,
        is_run=True,
    ),
    ("POST", "/v1/embeddings"): Described(
        "Embeddings",
        "Turn texts into vectors",
        texts.EmbeddingList,
        EmbeddingRequest,
        example={"model": EMBEDDING, "input": _TEXTS},
        errors=(*OF_BODIES, *OF_RUNS),
        is_kept=True,
        is_run=True,
    ),
    ("POST", "/v1/messages"): _MESSAGE,
    ("POST", "/v1/messages/count_tokens"): replace(
        _MESSAGE,
        summary="Count the tokens of a conversation",
        answer=messages.InputTokens,
        body=CountRequest,
        events=(),
        example={"model": CHAT, "messages": _ASK},
        errors=_TOKENIZE.errors,
        note="Free.",
        is_kept=False,
        is_run=False,
    ),
    ("POST", "/v1/responses"): _RESPONSE,
    ("POST", "/v1/responses/input_tokens"): replace(
        _RESPONSE,
        summary="Count the tokens of a response's input",
        answer=responses.ResponseInputTokens,
        body=TokenCountRequest,
        events=(),
        example={"model": CHAT, "input": "What is the capital of France?"},
        errors=(*_TOKENIZE.errors, *_OF_TURNS),
        note="Free.",
        is_kept=False,
        is_run=False,
    ),
    ("POST", "/v1/rerank"): _RERANK,
    ("POST", "/rerank"): replace(_RERANK, note="The same as `/v1/rerank`, where vLLM has it."),
    ("POST", "/v2/rerank"): replace(
        _RERANK, note="In Cohere's form: without documents unless asked, with `meta`."
    ),
    ("POST", "/v1/score"): _SCORE,
    ("POST", "/score"): _SCORE,
    ("POST", "/v1/tokenize"): _TOKENIZE,
    ("POST", "/tokenize"): _TOKENIZE,
    ("POST", "/v1/detokenize"): _DETOKENIZE,
    ("POST", "/detokenize"): _DETOKENIZE,
    ("GET", "/v1/models"): Described(
        "Models",
        "List the models that the key may use",
        (texts.ModelList, texts.AnthropicModelPage),
        query=ModelQuery,
        errors=OF_VALUES,
        note="With the header `anthropic-version` in Anthropic's form, by pages; the query is "
        "heeded there only.",
        may_be_anthropic=True,
        headers=("anthropic-version",),
    ),
    ("GET", "/v1/models/{model}"): Described(
        "Models",
        "Show a model, by its name or an alias",
        (texts.ModelObject, texts.AnthropicModel),
        errors=("model_not_found",),
        may_be_anthropic=True,
        headers=("anthropic-version",),
    ),
}

_KEPT = Described("Kept answers", "", errors=(*OF_VALUES, "not_found"))
_FILE = Described("Files", "", errors=_OF_FILES)
_UPLOAD = Described("Files", "", UploadObject, errors=_OF_FILES, is_kept=True)
_BATCH = Described("Batches", "", resources.BatchObject, errors=("not_found",))
_COMPLETION, _RESPONSE_PATH = "/v1/chat/completions/{completion_id}", "/v1/responses/{response_id}"

STORED: dict[tuple[str, str], Described] = {
    ("GET", "/v1/chat/completions"): replace(
        _KEPT,
        summary="List kept chat completions",
        answer=Page[ChatCompletion],
        query=ListCompletions,
        note="`metadata[name]=value` for each pair that is looked for.",
    ),
    ("GET", _COMPLETION): replace(
        _KEPT, summary="Show a kept chat completion", answer=ChatCompletion
    ),
    ("POST", _COMPLETION): replace(
        _KEPT,
        summary="Change a kept completion's metadata",
        answer=ChatCompletion,
        body=UpdateCompletion,
        example={"metadata": {"topic": "geography"}},
        errors=(*OF_BODIES, "not_found"),
        is_kept=True,
    ),
    ("DELETE", _COMPLETION): replace(
        _KEPT, summary="Delete a kept chat completion", answer=DeletedCompletion
    ),
    ("GET", f"{_COMPLETION}/messages"): replace(
        _KEPT,
        summary="List the messages that it answered",
        answer=Page[KeptMessage],
        query=ListMessages,
    ),
    ("GET", _RESPONSE_PATH): replace(
        _KEPT,
        summary="Show a kept response, or one that is made, as it is or as a stream",
        answer=responses.ResponseObject,
        events=(*responses.EVENTS, Error),
        query=Retrieve,
        errors=(*OF_VALUES, "not_found", "stream_expired", "stream_unavailable"),
    ),
    ("DELETE", _RESPONSE_PATH): replace(
        _KEPT, summary="Delete a kept response", answer=responses.DeletedResponse
    ),
    ("POST", f"{_RESPONSE_PATH}/cancel"): replace(
        _KEPT,
        summary="Cancel a response that runs in the background",
        answer=responses.ResponseObject,
        is_kept=True,
    ),
    ("GET", f"{_RESPONSE_PATH}/input_items"): replace(
        _KEPT,
        summary="List the items that it answered",
        answer=responses.InputItemPage,
        query=ListItems,
    ),
    ("POST", "/v1/files"): replace(
        _FILE,
        summary="Upload a file",
        answer=FileObject,
        body=UploadFields,
        errors=(
            *OF_FILES, *OF_VALUES, "missing_required_parameter", (408, "request_timeout"),
            "file_too_large", "unsupported_content_type", "insufficient_quota",
        ),
        media_type="multipart/form-data",
        is_kept=True,
    ),
    ("GET", "/v1/files"): replace(
        _FILE, summary="List files", answer=Page[FileObject], query=ListFiles,
        errors=(*_OF_FILES, *OF_VALUES),
    ),
    ("GET", "/v1/files/{file_id}"): replace(_FILE, summary="Show a file", answer=FileObject),
    ("DELETE", "/v1/files/{file_id}"): replace(
        _FILE, summary="Delete a file", answer=DeletedFile, errors=(*_OF_FILES, "file_in_use")
    ),
    ("GET", "/v1/files/{file_id}/content"): replace(
        _FILE,
        summary="Download a file, or the part that a Range names",
        errors=(*_OF_FILES, "range_not_satisfiable"),
        answer_type="application/octet-stream",
        headers=("range",),
    ),
    ("POST", "/v1/uploads"): replace(
        _UPLOAD,
        summary="Begin a file that comes in parts",
        body=CreateUpload,
        example={
            "filename": "requests.jsonl",
            "purpose": "batch",
            "bytes": 1_000_000,
            "mime_type": "application/jsonl",
        },
        errors=(*OF_BODIES, *OF_FILES, "file_too_large", "insufficient_quota", "too_many_uploads"),
    ),
    ("POST", "/v1/uploads/{upload_id}/parts"): replace(
        _UPLOAD,
        summary="Send a part, of at most 64 MiB",
        answer=PartObject,
        body=PartFields,
        example={"data": "…"},
        errors=(
            *_OF_FILES, *OF_VALUES, "missing_required_parameter", (408, "request_timeout"),
            "file_too_large", "unsupported_content_type", "upload_ended", "upload_in_progress",
        ),
        media_type="multipart/form-data",
    ),
    ("POST", "/v1/uploads/{upload_id}/complete"): replace(
        _UPLOAD,
        summary="Put the parts together, in the order that is named",
        body=CompleteUpload,
        example={"part_ids": ["part_abc", "part_def"]},
        errors=(*OF_BODIES, *_OF_FILES, "upload_ended", "upload_in_progress"),
    ),
    ("POST", "/v1/uploads/{upload_id}/cancel"): replace(
        _UPLOAD, summary="Give an upload up", errors=(*_OF_FILES, "upload_ended")
    ),
    ("POST", "/v1/batches"): replace(
        _BATCH,
        summary="Run the requests of a file within a day",
        body=CreateBatch,
        example={
            "input_file_id": "file-abc123",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        },
        errors=(*OF_BODIES, *OF_FILES, "not_found", "too_many_batches", "insufficient_quota"),
        is_kept=True,
    ),
    ("GET", "/v1/batches"): replace(
        _BATCH, summary="List batches, the newest first",
        answer=Page[resources.BatchObject], query=ListBatches, errors=(*OF_VALUES, "not_found"),
    ),
    ("GET", "/v1/batches/{batch_id}"): replace(_BATCH, summary="Show a batch"),
    ("POST", "/v1/batches/{batch_id}/cancel"): replace(
        _BATCH, summary="Cancel a batch", errors=("not_found", "batch_ended"), is_kept=True
    ),
}  # fmt: skip

_RESUMED = Described(
    "Streams",
    "Go on reading a resumable stream",
    query=ResumeQuery,
    events=(ChatCompletionChunk, CompletionChunk, *responses.EVENTS, *messages.EVENTS, Error),
    errors=(
        *OF_VALUES, "stream_not_found", "stream_abandoned", "stream_too_large", "server_stopped",
        "stream_lost",
    ),
    note="The events after the one that was heard last; live if the request still runs.",
    headers=("last-event-id",),
)  # fmt: skip
STREAMS: dict[tuple[str, str], Described] = {
    ("POST", "/v1/stream/tickets"): Described(
        "Streams",
        "Issue a ticket with which a browser opens one socket",
        resources.TicketObject,
        TicketRequest,
        example={"origin": "https://app.example.com"},
        errors=(*OF_BODIES, "rate_limit_exceeded"),
    ),
    ("GET", "/v1/stream"): Described(
        "Streams",
        "Open a WebSocket for several requests at once",
        note="JSON text frames: `ClientFrame` to the server, `ServerFrame` from it. The key comes "
        "in the `Authorization` header, or a ticket as the subprotocol `ticket.…`. A refusal is "
        "an error frame on a socket that closes.",
        errors=("unknown_url",),
    ),
    ("GET", "/v1/streams/{request_id}"): _RESUMED,
    ("POST", "/v1/streams/{request_id}"): _RESUMED,
}
DESCRIBED = {**INFERENCE, **STORED, **STREAMS}
