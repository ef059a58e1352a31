"""E"""
from typing import Any
def render(*a:Any)->str: return ""
def write_report(*a:Any)->Any: ...
