from typing import ClassVar

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"
    # Staff change the registry, the control worker mirrors the fleet.
    web_grants: ClassVar = {
        "model": "SELECT",
        "modelalias": "SELECT",
        "modelversion": "SELECT",
        "deployment": "SELECT",
        "routingpolicy": "SELECT",
        "replica": "SELECT",
    }
