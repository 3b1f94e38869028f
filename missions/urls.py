from django.urls import include, path

from missions import views

urlpatterns = [
    path("artifacts/<str:ref>", views.artifact, name="artifact"),
    path("", include("missions.api.urls")),
]
