"""`/api/policies` and `/api/operator-policies`: settings for whatever has a matching name."""

from typing import Any, Final

from litestar import Response, delete, get, put
from litestar.datastructures import State

from ipc.messages.inventory import Document
from ipc.messages.rules import Policy
from runtime.auth.directory import Directory
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, ApiRequest, Caller, require
from runtime.management.bodies import read_body
from runtime.management.changing import carry_out, directory_of
from runtime.management.describing import does, gives, lists, makes
from runtime.management.documents import policies_in, policy_value
from runtime.management.empty import declared
from runtime.management.errors import NotFound, validated
from runtime.management.paging import Paging, paged
from runtime.management.parameters import PolicyBody

_ADMINISTRATORS: Final = [require(ADMINISTRATOR)]


def _documents(directory: Directory, caller: Caller, vhost: str | None, *, is_operator: bool) -> list[Document]:
    return [
        {"vhost": owner.name, "name": policy.name, **policy_value(policy)}
        for owner in directory.vhosts()
        if (owner.name == vhost if vhost is not None else caller.may_know_policies(owner.name))
        for policy in policies_in(directory, owner.name, is_operator=is_operator)
    ]


def _find(directory: Directory, vhost: str, name: str, *, is_operator: bool) -> Policy | None:
    return next(
        (policy for policy in policies_in(directory, vhost, is_operator=is_operator) if policy.name == name), None
    )


def _known(directory: Directory, vhost: str, name: str, *, is_operator: bool) -> Policy:
    policy = _find(directory, vhost, name, is_operator=is_operator)
    if policy is None:
        raise NotFound
    return policy


async def _put(request: ApiRequest, state: State, vhost: str, name: str, *, is_operator: bool) -> Response[bytes]:
    directory = directory_of(state)
    body = await read_body(request, PolicyBody)
    was_there = _find(directory, vhost, name, is_operator=is_operator) is not None
    policy = body.policy(name)
    with validated():
        await carry_out(state, lambda: directory.set_policy(vhost, policy, is_operator=is_operator))
    return declared(is_new=not was_there)


async def _delete(state: State, vhost: str, name: str, *, is_operator: bool) -> None:
    directory = directory_of(state)
    _known(directory, vhost, name, is_operator=is_operator)
    await carry_out(state, lambda: directory.clear_policy(vhost, name, is_operator=is_operator))


@get("/policies", summary="All policies that may be seen", operation_class=lists(answers.Policy))
async def policies(request: ApiRequest, state: State) -> Any:
    documents = _documents(directory_of(state), request.user, None, is_operator=False)
    return paged(documents, Paging.of(request.query_params))


@get("/policies/{vhost:str}", summary="The policies of a virtual host", operation_class=lists(answers.Policy))
async def policies_of(request: ApiRequest, state: State, vhost: str) -> Any:
    request.user.require_policies_seen(vhost)
    documents = _documents(directory_of(state), request.user, vhost, is_operator=False)
    return paged(documents, Paging.of(request.query_params))


@get("/policies/{vhost:str}/{name:str}", summary="One policy", operation_class=gives(answers.Policy))
async def policy_named(request: ApiRequest, state: State, vhost: str, name: str) -> Document:
    request.user.require_policies(vhost)
    policy = _known(directory_of(state), vhost, name, is_operator=False)
    return {"vhost": vhost, "name": name, **policy_value(policy)}


@put("/policies/{vhost:str}/{name:str}", summary="Lay down a policy", operation_class=makes(PolicyBody))
async def put_policy(request: ApiRequest, state: State, vhost: str, name: str) -> Response[bytes]:
    request.user.require_policies(vhost)
    return await _put(request, state, vhost, name, is_operator=False)


@delete("/policies/{vhost:str}/{name:str}", summary="Lift a policy", operation_class=does())
async def delete_policy(request: ApiRequest, state: State, vhost: str, name: str) -> None:
    request.user.require_policies(vhost)
    await _delete(state, vhost, name, is_operator=False)


# operators' -----------------------------------------------------------------------------------------------------------


@get("/operator-policies", summary="All operator policies that may be seen", operation_class=lists(answers.Policy))
async def operator_policies(request: ApiRequest, state: State) -> Any:
    documents = _documents(directory_of(state), request.user, None, is_operator=True)
    return paged(documents, Paging.of(request.query_params))


@get(
    "/operator-policies/{vhost:str}",
    summary="The operator policies of a virtual host",
    operation_class=lists(answers.Policy),
)
async def operator_policies_of(request: ApiRequest, state: State, vhost: str) -> Any:
    request.user.require_policies_seen(vhost)
    documents = _documents(directory_of(state), request.user, vhost, is_operator=True)
    return paged(documents, Paging.of(request.query_params))


@get(
    "/operator-policies/{vhost:str}/{name:str}",
    guards=_ADMINISTRATORS,
    summary="One operator policy",
    operation_class=gives(answers.Policy),
)
async def operator_policy_named(state: State, vhost: str, name: str) -> Document:
    policy = _known(directory_of(state), vhost, name, is_operator=True)
    return {"vhost": vhost, "name": name, **policy_value(policy)}


@put(
    "/operator-policies/{vhost:str}/{name:str}",
    guards=_ADMINISTRATORS,
    summary="Lay down an operator policy",
    operation_class=makes(PolicyBody),
)
async def put_operator_policy(request: ApiRequest, state: State, vhost: str, name: str) -> Response[bytes]:
    request.user.require_known(vhost)
    return await _put(request, state, vhost, name, is_operator=True)


@delete(
    "/operator-policies/{vhost:str}/{name:str}",
    guards=_ADMINISTRATORS,
    summary="Lift an operator policy",
    operation_class=does(),
)
async def delete_operator_policy(state: State, vhost: str, name: str) -> None:
    await _delete(state, vhost, name, is_operator=True)


POLICIES: Final[list[Any]] = [
    policies,
    policies_of,
    policy_named,
    put_policy,
    delete_policy,
    operator_policies,
    operator_policies_of,
    operator_policy_named,
    put_operator_policy,
    delete_operator_policy,
]
