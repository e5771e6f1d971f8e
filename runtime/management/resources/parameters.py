"""`/api/parameters`, `/api/global-parameters` and `/api/cluster-name`.

Operator policies and limits of virtual hosts are seen and set here as well, as RabbitMQ does it; that takes an
administrator here too, which RabbitMQ leaves to policymakers.
"""

from typing import Any, Final

from litestar import Response, delete, get, put
from litestar.datastructures import State
from msgspec import Struct

from ipc.messages.inventory import Document
from runtime.auth.directory import Directory
from runtime.decisions.parameters import CLUSTER_NAME, OPERATOR_POLICY, POLICY, VHOST_LIMITS
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, POLICYMAKER, ApiRequest, Caller, require
from runtime.management.bodies import read_body
from runtime.management.changing import carry_out, directory_of
from runtime.management.describing import does, gives, lists, makes
from runtime.management.empty import declared
from runtime.management.errors import BadRequest, NotAuthorized, NotFound, validated
from runtime.management.paging import Paging, paged
from runtime.management.parameters import cluster_name_of, parameter_documents, setting_of

_ADMINISTRATORS: Final = [require(ADMINISTRATOR)]
_POLICYMAKERS: Final = [require(POLICYMAKER)]


class ValueBody(Struct, frozen=True):
    value: Any


class NameBody(Struct, frozen=True):
    name: str


def _find(directory: Directory, component: str, vhost: str, name: str) -> Document | None:
    for document in parameter_documents(directory, component):
        if (document["vhost"], document["name"]) == (vhost, name):
            return document
    return None


def _require_right_to_set(caller: Caller, component: str, vhost: str) -> None:
    caller.require_policies(vhost)
    if component in (OPERATOR_POLICY, VHOST_LIMITS) and not caller.has(ADMINISTRATOR):
        raise NotAuthorized("Not administrator user")


@get(
    "/parameters",
    guards=_POLICYMAKERS,
    summary="All parameters that may be seen",
    operation_class=lists(answers.Parameter),
)
async def parameters(request: ApiRequest, state: State) -> Any:
    documents = [
        document
        for document in parameter_documents(directory_of(state))
        if request.user.may_know_policies(document["vhost"])
    ]
    return paged(documents, Paging.of(request.query_params))


@get(
    "/parameters/{component:str}",
    guards=_POLICYMAKERS,
    summary="The parameters of one component",
    operation_class=lists(answers.Parameter),
)
async def parameters_of_component(request: ApiRequest, state: State, component: str) -> Any:
    documents = [
        document
        for document in parameter_documents(directory_of(state), component)
        if request.user.may_know_policies(document["vhost"])
    ]
    return paged(documents, Paging.of(request.query_params))


@get(
    "/parameters/{component:str}/{vhost:str}",
    summary="The parameters of one component in a virtual host",
    operation_class=lists(answers.Parameter),
)
async def parameters_of_vhost(request: ApiRequest, state: State, component: str, vhost: str) -> Any:
    request.user.require_policies(vhost)
    found = [doc for doc in parameter_documents(directory_of(state), component) if doc["vhost"] == vhost]
    return paged(found, Paging.of(request.query_params))


@get(
    "/parameters/{component:str}/{vhost:str}/{name:str}",
    summary="One parameter",
    operation_class=gives(answers.Parameter),
)
async def parameter_named(request: ApiRequest, state: State, component: str, vhost: str, name: str) -> Document:
    request.user.require_policies(vhost)
    found = _find(directory_of(state), component, vhost, name)
    if found is None:
        raise NotFound
    return found


@put("/parameters/{component:str}/{vhost:str}/{name:str}", summary="Set a parameter", operation_class=makes(ValueBody))
async def put_parameter(request: ApiRequest, state: State, component: str, vhost: str, name: str) -> Response[bytes]:
    directory = directory_of(state)
    _require_right_to_set(request.user, component, vhost)
    body = await read_body(request, ValueBody)
    was_there = _find(directory, component, vhost, name) is not None
    with validated():
        await carry_out(state, setting_of(directory, vhost, component, name, body.value))
    return declared(is_new=not was_there)


@delete("/parameters/{component:str}/{vhost:str}/{name:str}", summary="Clear a parameter", operation_class=does())
async def delete_parameter(request: ApiRequest, state: State, component: str, vhost: str, name: str) -> None:
    directory = directory_of(state)
    _require_right_to_set(request.user, component, vhost)
    if _find(directory, component, vhost, name) is None:
        raise NotFound
    if component == POLICY:
        raise BadRequest("policies may not be cleared using this method")
    if component == OPERATOR_POLICY:
        await carry_out(state, lambda: directory.clear_policy(vhost, name, is_operator=True))
    elif component == VHOST_LIMITS:
        await carry_out(state, directory.clear_limits, vhost)
    else:
        await carry_out(state, directory.clear_parameter, vhost, component, name)


# of the broker as a whole ---------------------------------------------------------------------------------------------


@get(
    "/global-parameters",
    guards=_POLICYMAKERS,
    summary="All global parameters",
    operation_class=lists(answers.GlobalParameter),
)
async def global_parameters(request: ApiRequest, state: State) -> Any:
    found = directory_of(state).global_parameters()
    documents = [{"name": name, "value": value} for name, value in found.items()]
    return paged(documents, Paging.of(request.query_params))


@get(
    "/global-parameters/{name:str}",
    guards=_POLICYMAKERS,
    summary="One global parameter",
    operation_class=gives(answers.GlobalParameter),
)
async def global_parameter_named(state: State, name: str) -> Document:
    found = directory_of(state).global_parameters()
    if name not in found:
        raise NotFound
    return {"name": name, "value": found[name]}


@put(
    "/global-parameters/{name:str}",
    guards=_POLICYMAKERS,
    summary="Set a global parameter",
    operation_class=makes(ValueBody),
)
async def put_global_parameter(request: ApiRequest, state: State, name: str) -> Response[bytes]:
    directory = directory_of(state)
    body = await read_body(request, ValueBody)
    was_there = name in directory.global_parameters()
    with validated():
        await carry_out(state, directory.set_global_parameter, name, body.value)
    return declared(is_new=not was_there)


@delete(
    "/global-parameters/{name:str}", guards=_POLICYMAKERS, summary="Clear a global parameter", operation_class=does()
)
async def delete_global_parameter(state: State, name: str) -> None:
    directory = directory_of(state)
    if name not in directory.global_parameters():
        raise NotFound
    await carry_out(state, directory.clear_global_parameter, name)


@get("/cluster-name", summary="What the broker is called", operation_class=gives(answers.Name))
async def cluster_name(state: State) -> Document:
    return {"name": cluster_name_of(directory_of(state), state.broker)}


@put(
    "/cluster-name",
    guards=_ADMINISTRATORS,
    status_code=204,
    summary="Call the broker something",
    operation_class=does(body=NameBody),
)
async def put_cluster_name(request: ApiRequest, state: State) -> None:
    body = await read_body(request, NameBody)
    with validated():
        await carry_out(state, directory_of(state).set_global_parameter, CLUSTER_NAME, body.name)


PARAMETERS: Final[list[Any]] = [
    parameters,
    parameters_of_component,
    parameters_of_vhost,
    parameter_named,
    put_parameter,
    delete_parameter,
    global_parameters,
    global_parameter_named,
    put_global_parameter,
    delete_global_parameter,
    cluster_name,
    put_cluster_name,
]
