from django.urls import path

from missions import api, views

urlpatterns = [
    path("artifacts/<str:ref>", views.artifact, name="artifact"),
    path("api/v1/missions/", api.Missions.as_view(), name="api-missions"),
    path("api/v1/missions/<str:ref>/", api.OneMission.as_view(), name="api-mission"),
]
