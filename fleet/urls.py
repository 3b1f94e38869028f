from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.generic import RedirectView

from fleet.api import views as api
from fleet.flower import views as flower
from fleet.limits import signin
from fleet.monitoring import health, metrics


def no_icon(request: HttpRequest) -> HttpResponse:
    """Answer requests for the icon of pages that name none, such as Flower's. A 404 would be logged each time."""
    return HttpResponse(status=204, headers={"Cache-Control": "public, max-age=86400"})


admin.autodiscover()  # here, so that only what serves or checks the site loads the pages

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/login/", signin.page),
    path("admin/", admin.site.urls),
    path("favicon.ico", no_icon),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("flower/", flower.flower, {"path": ""}, name="flower"),
    path("flower/<path:path>", flower.flower),
    path("metrics", metrics.metrics, name="metrics"),
    path("", include("missions.urls")),
    path("", include("checkpoints.urls")),
    path("", include("fleet.api.urls")),
    path("api/v1/<path:path>", api.NotFoundView.as_view()),  # after all routes of the API
]

handler400 = "fleet.api.http.fallbacks.bad_request"
handler404 = "fleet.api.http.fallbacks.not_found"
handler500 = "fleet.api.http.fallbacks.server_error"
