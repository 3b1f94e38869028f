from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from fleet import health, metrics

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", metrics.metrics),
    path("", include("missions.urls")),
]
