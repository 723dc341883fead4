"""OpenVINO: conversion and inspection."""
