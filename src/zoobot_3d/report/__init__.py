"""Evaluation, figures and HTML reports of trained models and predictions.

`figures` draws arrays and knows no files; `gallery` draws what lies on disk. Must not train anything.

Public: `evaluate.evaluate_catalog`, `figures`, `gallery`, `html.write_report`.
"""
