"""ListTransactions (key 66), versions 0 to 2.

The transactional ids that are coordinated here and that the principal may describe (KIP-664), by state, producer id,
how long they have been running (version 1), and a pattern that the whole id matches (version 2, KIP-1152). States that
are none are named in the answer.
"""

from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.patterns import full_match
from kafkapy.protocol.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from kafkapy.transactions.commands import ListTransactions
from kafkapy.transactions.states import BY_LABEL


async def handle(request: ListTransactionsRequest, ctx: Context) -> ListTransactionsResponse:
    wanted = dict.fromkeys(request.state_filters)
    states = frozenset(BY_LABEL[label] for label in wanted if label in BY_LABEL) if wanted else None
    pattern = request.transactional_id_pattern
    matches = full_match(pattern) if pattern else None
    command = ListTransactions(frozenset(request.producer_id_filters), states, request.duration_filter)
    return ListTransactionsResponse(
        unknown_state_filters=[label for label in wanted if label not in BY_LABEL],
        transaction_states=[
            ListTransactionsResponse.TransactionState(
                transactional_id=transactional_id,
                producer_id=transaction.producer_id,
                transaction_state=transaction.state.label,
            )
            for transactional_id, transaction in await ctx.rooms.transactions.list_transactions(command)
            if (matches is None or matches(transactional_id))
            and ctx.permits(Operation.DESCRIBE, ResourceType.TRANSACTIONAL_ID, transactional_id)
        ],
    )
